# SPDX-License-Identifier: Apache-2.0
"""One rule for all commands: whoever reads a pipe may leave early; what cannot be written is an error."""

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tracer.cli.main import app

COMMANDS = {
    "identify": "identify /a /b /c",
    "report": "report {recording}",
    "report --json": "report {recording} --json",
    "runs": "runs {recording}",
    "recover": "recover {recording}",
    "recover --json": "recover {recording} --json",
    "upload": "upload {recording} file://{recording}-store",
    "fleet report": "fleet report {recording}",
    "fleet report --json": "fleet report {recording} --json",
    "compare": "compare {recording} {recording} --all",
    "simulate --list": "simulate --list",
    "completion bash": "completion bash",
    "topology": "topology",
    "topology --json": "topology --json",
    "top": "top {recording} --once",
    "top --json": "top {recording} --json",
    "doctor": "doctor",
    "doctor --json": "doctor --json",
    "ps": "ps",
    "ps --json": "ps --json",
    "--help": "--help",
    "--version": "--version",
}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of a node that does not exist."""
    output = tmp_path_factory.mktemp("recording")
    subprocess.run([sys.executable, "-m", "tracer.cli.main", "simulate", output, "--duration", "2s"], check=True)
    return output


def run(command: str, recording: Path, redirection: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell; its own exit code, whatever stands behind it in a pipe."""
    text = f"{sys.executable} -m tracer.cli.main {COMMANDS[command].format(recording=recording)} {redirection}"
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)


@pytest.fixture(params=COMMANDS)
def command(request: pytest.FixtureRequest) -> str:
    """Each command that prints something."""
    return str(request.param)


def test_a_reader_that_leaves_changes_nothing(command: str, recording: Path) -> None:
    whole = run(command, recording, ">/dev/null")
    # `true` reads nothing; most of what is printed comes after it has gone.
    left = run(command, recording, "| true; exit ${PIPESTATUS[0]}")
    assert left.returncode == whole.returncode
    assert left.stderr == whole.stderr


@pytest.mark.parametrize(("redirection", "says"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_output_that_cannot_be_written_is_an_error(command: str, recording: Path, redirection: str, says: str) -> None:
    done = run(command, recording, redirection)
    assert "Traceback" not in done.stderr
    # What was found weighs more than that it could not be printed: doctor's 3 stays.
    assert done.returncode in (3, 4)
    if done.returncode == 4:
        assert done.stderr.splitlines()[-1].startswith(f"tracer: error: standard output: {says}")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_on_a_terminal_what_is_printed_is_in_order(unbuffered: str) -> None:
    program = (
        "import sys; from tracer.cli.streams import open_standard_streams; open_standard_streams(); print('one'); "
        "print('two', file=sys.stderr); print('three'); print('four', file=sys.stderr)"
    )
    controller, terminal = pty.openpty()
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    subprocess.run([sys.executable, "-c", program], stdout=terminal, stderr=terminal, env=environment, check=True)
    os.close(terminal)
    said = b""
    # EIO: nobody has the terminal open any more.
    with contextlib.suppress(OSError):
        while part := os.read(controller, 1024):
            said += part
    os.close(controller)
    assert said.split() == [b"one", b"two", b"three", b"four"]


def test_every_command_that_prints_is_among_them() -> None:
    names = {command.callback.__name__ for command in app.registered_commands if command.callback}
    # What `verify` and `demo` print takes cgroups: tests/kernel/test_verify.py, tests/kernel/test_demo.py. `mark` takes
    # a run: tests/kernel/test_recorder_live.py.
    assert names - {"run", "plot", "export", "verify", "demo", "mark"} <= {command.split()[0] for command in COMMANDS}
