# SPDX-License-Identifier: Apache-2.0
"""`tracer top` where no tracer runs: what it begins is of this program, and ends with it however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from live_node import TRACER

pytestmark = pytest.mark.root

_SECONDS = 15


def children(process: int) -> list[int]:
    """See proc(5)."""
    return [int(one) for one in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and one for temporary files in it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    return tmp_path


# Where no run of the node's is to be found; and as the `tracer` command is started, which does not look for modules in
# the working directory.
COMMAND = [
    "unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh",
    sys.executable, "-P", *TRACER, "top", "--once",
]  # fmt: skip


def test_modules_in_the_working_directory_are_not_taken_for_its_own(place: Path) -> None:
    (place / "typer.py").write_text("open('taken', 'w')\nraise SystemExit(9)\n")
    ended = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=120)
    assert not (place / "taken").exists()
    assert ended.returncode == 0, ended.stderr
    assert "CONTAINER" in ended.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_it_began_ends_with_it(place: Path, number: signal.Signals) -> None:
    top = subprocess.Popen(COMMAND, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    begun: list[int] = []
    try:
        until = time.monotonic() + _SECONDS
        # Not those of the shell before it.
        while not (Path(f"/proc/{top.pid}/exe").samefile(sys.executable) and (begun := children(top.pid))):
            assert time.monotonic() < until
            time.sleep(0.01)
        top.send_signal(number)
        assert top.wait(_SECONDS) in (-number, 128 + number)
        while any(map(is_there, begun)):
            assert time.monotonic() < until, "the tracer that it began runs on"
            time.sleep(0.1)
        if number != signal.SIGKILL:
            assert not list((place / "tmp").iterdir())
    finally:
        top.kill()
        top.wait()
        for process in filter(is_there, begun):
            os.kill(process, signal.SIGTERM)
