# SPDX-License-Identifier: Apache-2.0
"""The `tracer` command: its subcommands, and how an error becomes one line and an exit code.

Importing this must stay cheap (`tracer --help` under 0.3 s): heavy imports belong inside the commands.
"""

if __name__ == "__main__":
    # Before the imports below, as the installed command does.
    from tracer.cli.entry import main as enter

    enter()

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from tracer import __version__
from tracer.cli.address_space import require_address_space
from tracer.cli.command_class import Command, Group
from tracer.cli.compare import compare
from tracer.cli.completion import completion
from tracer.cli.demo import demo
from tracer.cli.doctor import doctor
from tracer.cli.export import export
from tracer.cli.fleet import fleet
from tracer.cli.identify import identify
from tracer.cli.mark import mark
from tracer.cli.plot import plot
from tracer.cli.ps import ps
from tracer.cli.recover import recover
from tracer.cli.report import report
from tracer.cli.run import run
from tracer.cli.runs import runs
from tracer.cli.saying import say
from tracer.cli.simulate import simulate
from tracer.cli.streams import STANDARD_OUTPUT
from tracer.cli.top import top
from tracer.cli.topology import topology
from tracer.cli.upload import upload
from tracer.cli.verify import verify
from tracer.errors import OutputError, TracerError, UsageError

app = typer.Typer(
    name="tracer",
    cls=Group,
    help="Which container slows down which other, when, and by how much: at one millisecond.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    demo, run, runs, report, verify, doctor, identify, ps, topology, plot, export, simulate, compare, recover, upload,
    mark, top, completion,
):  # fmt: skip
    app.command(cls=Command)(command)
app.add_typer(fleet, name="fleet")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tracer {__version__}")
        raise typer.Exit


# These map Polars, PyArrow and numba.
_HEAVY = {
    "demo",
    "run",
    "runs",
    "report",
    "plot",
    "export",
    "simulate",
    "compare",
    "verify",
    "recover",
    "upload",
    "top",
    "fleet",
}


@app.callback()
def _options(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    if context.invoked_subcommand in _HEAVY:
        require_address_space()


def main() -> NoReturn:
    """Runs the command line and exits, with one of the codes of `tracer.errors` or, for a Ctrl-C, 130."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        # From here on a Ctrl-C leaves nothing half done; the command line's library turns it into an exit code.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = _run_command()
    try:
        sys.stdout.flush()
    except OSError as error:
        code = code or _say_unwritten(error)
    sys.exit(code)


def _run_command() -> int:
    try:
        code = app(prog_name="tracer", standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except TracerError as error:
        _say_error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error)
        else:
            from tracer.cli.mistakes import explain

            _say_error(explain(error))
        return UsageError.exit_code
    except OSError as error:
        return _say_unwritten(error)
    except KeyboardInterrupt:
        # While the commands are built: from then on the library takes it.
        return 128 + signal.SIGINT
    return code if isinstance(code, int) else 0


def _say_error(text: str) -> None:
    say(f"error: {text}")


def _say_unwritten(error: OSError) -> int:
    """Standard output, or a file that no command foresaw, cannot be written."""
    _say_error(f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
    if error.filename == STANDARD_OUTPUT:
        # What is still in its buffer must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return OutputError.exit_code
