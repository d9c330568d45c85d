# SPDX-License-Identifier: Apache-2.0
"""A signal reaches the run, whatever a library that it uses does with signals."""

import subprocess
import sys

# In a process of its own: Polars' handler is set once, when it is imported.
PROGRAM = """
import os, signal, threading
from tracer.cli.stop_signals import StopSignals

signal.signal(signal.SIGINT, signal.default_int_handler)
stopped, ended = threading.Event(), []
with StopSignals() as signals:
    with signals.while_importing():
        import polars as pl
        if {early}:
            os.kill(os.getpid(), signal.SIGINT)
            signals.stop(stopped.set)
    signals.stop(stopped.set)
    rows = pl.DataFrame({{"value": range(300_000)}}).lazy()

    def query():
        try:
            while not stopped.is_set():
                rows.group_by(pl.col("value") % 1000).agg(pl.len()).collect()
            rows.collect()
        except BaseException as error:
            ended.append(repr(error))

    threads = [threading.Thread(target=query) for _ in range(2)]
    for thread in threads:
        thread.start()
    if not {early}:
        stopped.wait(0.3)
        os.kill(os.getpid(), signal.SIGINT)
    assert stopped.wait(60)
    for thread in threads:
        thread.join()
print(ended)
"""


def said(*, early: bool) -> str:
    command = [sys.executable, "-c", PROGRAM.format(early=early)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_query_that_is_under_way_goes_on() -> None:
    assert said(early=False) == "[]\n"


def test_a_signal_while_a_library_is_imported_waits() -> None:
    assert said(early=True) == "[]\n"


def test_a_ctrl_c_while_the_commands_are_built_is_no_traceback() -> None:
    program = """
import os, signal, typer.main
# As in the foreground: what a script starts with `&` ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
built = typer.main.get_command
def build(*arguments):
    os.kill(os.getpid(), signal.SIGINT)
    return built(*arguments)
typer.main.get_command = build
from tracer.cli.entry import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", program, "ps"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")
