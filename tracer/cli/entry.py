# SPDX-License-Identifier: Apache-2.0
"""The first lines of the `tracer` command: signals and standard streams, before what takes time is imported."""

import signal
import sys

# Until there is something to be put in order, a Ctrl-C just ends the process: Python's own answer is a traceback. Where
# a shell had it ignored for what a script starts with `&`, it stays so but for what is ended by it.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler or sys.argv[1:2] in (["run"], ["verify"], ["demo"]):
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """Entry point of the `tracer` command; exits with the codes of `tracer.errors`."""
    from tracer.cli.streams import open_standard_streams

    open_standard_streams()
    from tracer.cli.main import main as run_command

    run_command()
