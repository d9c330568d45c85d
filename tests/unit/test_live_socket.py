# SPDX-License-Identifier: Apache-2.0
"""The socket of a run: who may ask what, and what a stranger can do."""

import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from live_snapshots import container, snapshot

from tracer.errors import UsageError
from tracer.live import attaching
from tracer.live import socket as live_socket
from tracer.live.attaching import Attached, GoneError, attach
from tracer.live.server import Answer
from tracer.live.socket import LiveSocket, sockets
from tracer.pipeline.serving import build_live_server

NOW = snapshot([container(1), container(2)], health={"records": 5})


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /run/tracer."""
    path = tmp_path / "run"
    monkeypatch.setattr(live_socket, "DIRECTORY", path)
    monkeypatch.setattr(attaching, "DIRECTORY", path)
    return path


class Run:
    """What answers."""

    def __init__(self, option: str = "auto", *, has_recorder: bool = True) -> None:
        self.marks: list[str | None] = []
        self.notes: list[str] = []
        self.has_recorder = has_recorder
        self.live = LiveSocket.of_option(option, uuid4(), None)
        assert self.live.listening is not None
        self.server = build_live_server(self.live.listening, lambda: NOW, self._mark, self.notes.append)

    def _mark(self, _reason: str, note: str | None) -> str:
        if not self.has_recorder:
            raise UsageError("this run has no flight recorder")
        self.marks.append(note)
        return "the last 10 s are written"

    @contextmanager
    def going(self) -> Iterator[Path]:
        assert self.live.path is not None
        self.server.start()
        yield self.live.path
        self.server.finish()
        self.server.join(30)
        self.live.remove()


def test_it_gives_what_was_counted() -> None:
    with Run().going() as path:
        assert attach(None).snapshot() == NOW
        assert Attached(path).snapshot() == NOW


def test_a_socket_for_applications_beside_it_is_no_run(directory: Path) -> None:
    directory.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(directory / "dogstatsd.sock"))
        with Run().going() as path:
            assert attach(None).path == path
    assert (directory / "dogstatsd.sock").exists()


def test_only_its_owner_may_open_it(directory: Path) -> None:
    with Run().going() as path:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o755
    assert not path.exists()


def test_a_mark_reaches_the_recorder() -> None:
    run = Run()
    with run.going() as path:
        assert Attached(path).mark("deploy of shop & batch?") == "the last 10 s are written"
        assert Attached(path).mark(None) == "the last 10 s are written"
    assert run.marks == ["deploy of shop & batch?", None]


def test_a_mark_that_cannot_be_is_refused_with_its_reason() -> None:
    run = Run(has_recorder=False)
    with run.going() as path:
        with pytest.raises(UsageError, match="no flight recorder"):
            Attached(path).mark("x")
        for note in ("a\nb", "x" * 501):
            with pytest.raises(UsageError, match="one line of at most 500"):
                Attached(path).mark(note)
    assert run.marks == []


def test_one_that_stands_still_is_not_in_the_way_of_another(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Impatient(attaching._Connection):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            if path.name == "00000000.sock":
                self.timeout = 0.2

    monkeypatch.setattr(attaching, "_Connection", Impatient)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as still:
        still.bind(str(directory / "00000000.sock"))
        still.listen()
        with pytest.raises(UsageError, match="does not answer"):
            attach(None)
        with Run().going() as path:
            assert attach(None).path == path


def test_what_somebody_says_does_no_harm(tmp_path: Path) -> None:
    run = Run(str(tmp_path / "other.sock"))
    run.server._answer = lambda *_request: Answer(HTTPStatus.OK, b"\x1b[2Jgone\r\n")
    with run.going() as path:
        said = Attached(path).mark(None)
    assert "gone" in said
    assert "\x1b" not in said


def test_nobody_there(directory: Path) -> None:
    with pytest.raises(GoneError, match="no tracer that can be asked runs on this node"):
        attach(None)
    directory.mkdir()
    with pytest.raises(GoneError):
        attach(None)
    with pytest.raises(GoneError, match="no tracer runs behind"):
        attach(directory / "none.sock")


def test_of_several_one_must_be_named() -> None:
    with Run().going() as one, Run().going() as other:
        with pytest.raises(UsageError, match="say which by --socket") as told:
            attach(None)
        assert str(one) in str(told.value)
        assert str(other) in str(told.value)


def left_behind(path: Path) -> None:
    """A socket whose process was killed."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()


def test_what_a_killed_run_left_is_removed_and_what_lives_stays(directory: Path) -> None:
    left_behind(directory / "0123abcd.sock")
    (directory / "notes.txt").write_text("not ours")
    with Run().going() as one, Run().going() as other:
        assert set(sockets()) == {one, other}
    assert (directory / "notes.txt").exists()


def test_a_path_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.sock"
    left_behind(path)
    with Run(str(path)).going() as got:
        assert got == path
        with pytest.raises(UsageError, match="cannot listen on"):
            LiveSocket.of_option(str(path), uuid4(), None)
        assert Attached(path).snapshot() == NOW
    assert not path.exists()


def test_a_file_in_its_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(UsageError, match="cannot listen on"):
        LiveSocket.of_option(str(path), uuid4(), None)
    assert path.read_text() == "precious"
    with pytest.raises(UsageError, match="cannot listen on"):
        LiveSocket.of_option(str(tmp_path / "none" / "x.sock"), uuid4(), None)
    with pytest.raises(UsageError, match="cannot listen on"):
        LiveSocket.of_option(str(tmp_path / ("x" * 200)), uuid4(), None)


def test_where_none_can_be_the_run_goes_on(directory: Path) -> None:
    directory.write_text("in the way")
    live = LiveSocket.of_option("auto", uuid4(), None)
    assert live.listening is None
    assert live.problem is not None
    assert "no socket for `tracer top`" in live.problem
    assert LiveSocket.of_option("off", uuid4(), None).problem is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_it_is_of_the_user_that_the_run_turns_into() -> None:
    live = LiveSocket.of_option("auto", uuid4(), SimpleNamespace(uid=65534, gid=65533))
    assert live.path is not None
    status = live.path.lstat()
    assert (status.st_uid, status.st_gid) == (65534, 65533)
    live.remove()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /snapshot\r\n\r\n", b"\x00\xff\r\n\r\n", b"POST /snapshot HTTP/1.1\r\n\r\n",
        b"PUT /mark HTTP/1.1\r\n\r\n",
        b"POST /mark?note HTTP/1.1\r\n\r\n", b"POST /mark?note=a&note=b HTTP/1.1\r\n\r\n",
        b"POST /mark?note=%ff HTTP/1.1\r\n\r\n", b"POST /mark?x=y HTTP/1.1\r\n\r\n", b"GET /mark HTTP/1.1\r\n\r\n",
        b"x" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_question_is_refused_and_harms_nobody(request_: bytes) -> None:
    run = Run()
    with run.going() as path:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            with_error = False
            try:
                client.sendall(request_)
                answer = client.recv(4096)
            except ConnectionError:
                with_error = True
            assert with_error or answer.startswith(b"HTTP/1.1 4")
        assert Attached(path).snapshot() == NOW
    assert run.marks == []
    assert run.notes == []


def test_who_says_nothing_keeps_nobody_out() -> None:
    with Run().going() as path:
        idle = []
        for _client in range(40):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(path))
            idle.append(client)
            time.sleep(0.002)
        assert Attached(path).snapshot() == NOW
        for client in idle:
            client.close()


def test_an_answer_of_somebody_else_is_told(tmp_path: Path) -> None:
    class Other(Run):
        def __init__(self) -> None:
            super().__init__(str(tmp_path / "other.sock"))
            self.server._answer = lambda *_request: Answer(HTTPStatus.OK, b"[]")

    with Other().going() as path, pytest.raises(UsageError, match="no tracer of this version"):
        Attached(path).snapshot()
