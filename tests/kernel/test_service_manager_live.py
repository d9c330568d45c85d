# SPDX-License-Identifier: Apache-2.0
"""A run as a service: ready when ticks come, fed while they do and not otherwise, and a quiet journal."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.root
LONG_S = 60


def test_a_service_is_ready_and_alive_only_while_it_has_ticks(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver, (tmp_path / "journal").open("w+") as journal:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(LONG_S)
        status = os.fstat(journal.fileno())
        process = subprocess.Popen(
            [sys.executable, "-m", "tracer.cli.main", "run", "--output", tmp_path / "out", "--rotate", "1s"],
            stdin=subprocess.DEVNULL, stderr=journal,
            env=os.environ
            | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
        )  # fmt: skip
        try:
            assert receiver.recv(4096).startswith(b"READY=1\nSTATUS=00:00:0")
            for _ in range(4):
                assert receiver.recv(4096).startswith(b"WATCHDOG=1")
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            receiver.setblocking(False)
            with suppress(BlockingIOError):
                while receiver.recv(4096):
                    pass
            process.send_signal(signal.SIGCONT)
            receiver.settimeout(LONG_S)
            assert receiver.recv(4096).startswith(b"WATCHDOG=1")
            process.send_signal(signal.SIGTERM)
            while not receiver.recv(4096).startswith(b"STOPPING=1"):
                pass
            assert process.wait(LONG_S) == 0
        finally:
            process.kill()
            process.wait()
        journal.seek(0)
        lines = journal.read().splitlines()
    assert all(re.match(r"<[346]>tracer: ", line) for line in lines), lines
    # Files were closed each second, and none of that was said.
    assert len(list((tmp_path / "out" / "windows").rglob("*.parquet"))) >= 2
    told = [line for line in lines if line.startswith("<6>")]
    assert len(told) == 4, lines
