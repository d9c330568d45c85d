# SPDX-License-Identifier: Apache-2.0
"""What a service manager hears: ready once, then alive, stopping; and the priority of each line of the journal."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.live.service_manager import ServiceManager


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def test_ready_once_then_alive_then_stopping(receiver: socket.socket) -> None:
    environment = {"NOTIFY_SOCKET": receiver.getsockname(), "OTHER": "1"}
    manager = ServiceManager.of_environment(environment)
    assert environment == {"OTHER": "1"}
    asked = []

    def status() -> str:
        asked.append(1)
        return "many records\nREADY=0"

    for _ in range(3):
        manager.is_at_work(status)
    manager.is_stopping()
    heard = [receiver.recv(4096).decode().split("\n") for _ in range(4)]
    assert heard[:3] == [["READY=1", "STATUS=many records READY=0"], ["WATCHDOG=1"], ["WATCHDOG=1"]]
    assert heard[3][0] == "STOPPING=1"
    assert len(asked) == 1


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0tracer-test-{os.getpid()}")
        ServiceManager(f"@tracer-test-{os.getpid()}").is_stopping()
        assert receiver.recv(4096).startswith(b"STOPPING=1")


def test_no_manager_or_one_that_is_gone_is_no_error(tmp_path: Path) -> None:
    for address in (None, "", str(tmp_path / "gone"), "x" * 5000):
        ServiceManager(address).is_at_work(lambda: "")
        ServiceManager(address).is_stopping()


def test_a_manager_that_does_not_listen_holds_up_nobody(receiver: socket.socket) -> None:
    manager = ServiceManager(receiver.getsockname())
    for _ in range(10_000):
        manager.is_at_work(lambda: "x" * 1000)


@pytest.mark.parametrize(("options", "priority"), [("", 6), (", is_loss=True", 4)])
@pytest.mark.parametrize("text", ["warning: late", "error: none", "told"])
def test_lines_of_the_journal_have_their_priority(tmp_path: Path, text: str, options: str, priority: int) -> None:
    expected = {"warning: late": 4, "error: none": 3, "told": priority}[text]
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        for stream in (f"{status.st_dev}:{status.st_ino}", "1:1"):
            subprocess.run(
                [sys.executable, "-c", f"from tracer.cli.saying import say; say({text!r}{options})"],
                check=True, stderr=journal, env=os.environ | {"JOURNAL_STREAM": stream},
            )  # fmt: skip
        journal.seek(0)
        assert journal.read() == f"<{expected}>tracer: {text}\ntracer: {text}\n"
