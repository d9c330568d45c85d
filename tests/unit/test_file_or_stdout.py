# SPDX-License-Identifier: Apache-2.0
"""`-` for the files that commands write: complete, or nothing; a reader that leaves is no error."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

TRACER = f"{sys.executable} -m tracer.cli.main"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few seconds of a node that does not exist."""
    output = tmp_path_factory.mktemp("recording")
    subprocess.run([*TRACER.split(), "simulate", output, "--duration", "2s"], check=True)
    return output


def shell(command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", f"{TRACER} {command}"], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("command", "begins"),
    [
        ("report --html -", b"<!doctype html>"),
        ("plot --kind heatmap -o -", b"\x89PNG"),
        ("plot --kind heatmap -o - | cat", b"\x89PNG"),
        ("export --perfetto -", b"\n"),
    ],
)
def test_the_file_comes_out_and_nothing_else(recording: Path, command: str, begins: bytes) -> None:
    words, _pipe, rest = command.partition(" | ")
    done = shell(f"{words} {recording}{f' | {rest}' if rest else ''}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(begins)
    assert b"Traceback" not in done.stderr
    if begins.startswith(b"<"):
        assert done.stdout.rstrip().endswith(b"</html>")


def test_it_is_what_the_file_would_be(recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "trace"
    assert shell(f"export --perfetto {file} {recording}").returncode == 0
    assert shell(f"export --perfetto - {recording}").stdout == file.read_bytes()
    assert not Path("-").exists()


@pytest.mark.parametrize(
    ("redirection", "code", "says"), [("| true; exit ${PIPESTATUS[0]}", 0, b"packets"), (">/dev/full", 4, b"No space")]
)
def test_a_pipe_that_is_closed_and_a_disk_that_is_full(
    recording: Path, redirection: str, code: int, says: bytes
) -> None:
    done = shell(f"export --perfetto - {recording} {redirection}")
    assert done.returncode == code
    assert says in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_a_terminal_gets_no_binary(recording: Path) -> None:
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [*TRACER.split(), "export", "--perfetto", "-", recording], stdout=terminal, stderr=subprocess.PIPE, check=False
    )
    os.close(terminal)
    os.close(controller)
    assert done.returncode == 2
    assert done.stderr.startswith(b"tracer: error: --perfetto -: what comes is no text for a terminal")
