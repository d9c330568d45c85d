# SPDX-License-Identifier: Apache-2.0
"""The `tracer` command: its subcommands, and how an error becomes one line and an exit code.

Importing this must stay cheap (`tracer --help` under 0.3 s): heavy imports belong inside the commands.
"""

import os
import sys
from typing import Annotated

import typer

from tracer import __version__
from tracer.cli.compare import compare
from tracer.cli.doctor import doctor
from tracer.cli.export import export
from tracer.cli.identify import identify
from tracer.cli.plot import plot
from tracer.cli.ps import ps
from tracer.cli.report import report
from tracer.cli.run import run
from tracer.cli.simulate import simulate
from tracer.cli.topology import topology
from tracer.errors import OutputError, TracerError

app = typer.Typer(
    name="tracer",
    help="Which container slows down which other, when, and by how much: at one millisecond.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(report)
app.command()(doctor)
app.command()(identify)
app.command()(ps)
app.command()(topology)
app.command()(plot)
app.command()(export)
app.command()(simulate)
app.command()(compare)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tracer {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the `tracer` command; exits with the codes of `tracer.errors`."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except TracerError as error:
        print(f"tracer: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        _abandon_stdout()
        # The reader of a pipe has seen enough.
        if not isinstance(error, BrokenPipeError):
            print(f"tracer: {error.strerror or error}", file=sys.stderr)
            sys.exit(OutputError.exit_code)


def _abandon_stdout() -> None:
    """What is still buffered must not fail again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
