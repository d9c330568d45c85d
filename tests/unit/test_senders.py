# SPDX-License-Identifier: Apache-2.0
"""Who sent a datagram: as the kernel says, with real sockets and processes; a directory is their cgroup2 tree."""

import array
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.errors import UsageError
from tracer.ingest.sockets import LONGEST_DATAGRAM, TEXT_SUFFIX, Datagram, DatagramReceiver, IngestSockets, peer_pid
from tracer.pipeline.senders import Senders


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ingest.sock"


@pytest.fixture
def sockets(path: Path) -> Iterator[IngestSockets]:
    sockets = IngestSockets(path, None, 0o666)
    sockets.begin()
    yield sockets
    sockets.remove()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with a cgroup for this process and its children."""
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    root = tmp_path / "cgroups"
    (root / own.removeprefix("0::/")).mkdir(parents=True)
    return root


@pytest.fixture
def senders(tree: Path) -> Iterator[Senders]:
    senders = Senders(tree)
    yield senders
    senders.close()


def own_cgroup(tree: Path) -> int:
    own = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return (tree / own.removeprefix("0::/")).stat().st_ino


def client(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect(str(path))
    return client


def receive(sockets: IngestSockets) -> Datagram:
    datagram = DatagramReceiver(sockets.datagrams).receive()
    assert datagram is not None
    return datagram


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def test_a_datagram_comes_with_its_sender_and_the_kernels_time(sockets: IngestSockets, path: Path) -> None:
    before = time.time_ns()
    with client(path) as one:
        one.send(b"a:1|c")
    after = time.time_ns()
    time.sleep(0.05)
    datagram = receive(sockets)
    assert (datagram.content, datagram.pid, datagram.is_cut) == (b"a:1|c", os.getpid(), False)
    # The kernel's clock is coarser than a reading of it by less than a tick.
    assert datagram.realtime_ns is not None
    assert before - 20_000_000 <= datagram.realtime_ns <= after
    assert DatagramReceiver(sockets.datagrams).receive() is None


def test_nobody_waits_for_a_run_that_has_not_begun(path: Path) -> None:
    sockets = IngestSockets(path, None, 0o666)
    with client(path) as one:
        one.setblocking(False)
        # More than any queue holds.
        for _number in range(5000):
            one.send(b"a:1|c")
        assert DatagramReceiver(sockets.datagrams).receive() is None
        sockets.begin()
        one.send(b"b:1|c")
        assert receive(sockets).content == b"b:1|c"
    sockets.remove()
    sockets.remove()


def test_descriptors_that_a_stranger_sends_along_are_not_kept(sockets: IngestSockets, path: Path) -> None:
    opened = len(list(Path("/proc/self/fd").iterdir()))
    with client(path) as one, Path(__file__).open() as file:
        rights = array.array("i", [file.fileno()] * 100)
        one.sendmsg([b"a:1|c"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    assert receive(sockets).pid == os.getpid()
    assert len(list(Path("/proc/self/fd").iterdir())) == opened


def test_one_that_is_too_long_is_cut_and_says_so(sockets: IngestSockets, path: Path) -> None:
    with client(path) as one:
        one.send(b"a" * (LONGEST_DATAGRAM + 1))
    datagram = receive(sockets)
    assert datagram.is_cut
    assert len(datagram.content) == LONGEST_DATAGRAM


def test_a_process_is_in_its_cgroup(senders: Senders, tree: Path) -> None:
    assert senders.cgroup_of(os.getpid(), now()) == own_cgroup(tree)
    # Once more, as it is remembered.
    assert senders.cgroup_of(os.getpid(), now()) == own_cgroup(tree)


@pytest.mark.parametrize("pid", [0, -1, 2**31 - 1])
def test_nobody_is_in_none(senders: Senders, pid: int) -> None:
    assert senders.cgroup_of(pid, now()) is None


def test_a_sender_that_has_ended_is_nobody(sockets: IngestSockets, path: Path, senders: Senders, tree: Path) -> None:
    send = f"import socket; s = socket.socket(1, 2); s.connect({str(path)!r}); s.send(b'a:1|c')"
    subprocess.run([sys.executable, "-S", "-c", send], check=True)
    assert senders.cgroup_of(receive(sockets).pid, now()) is None
    waits = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    assert senders.cgroup_of(waits.pid, now()) == own_cgroup(tree)
    waits.kill()
    os.waitid(os.P_PID, waits.pid, os.WEXITED | os.WNOWAIT)
    # It is still there, as a zombie, and its pid may be another's at any moment.
    assert senders.cgroup_of(waits.pid, now()) is None
    waits.communicate()


def test_who_has_a_pid_since_the_message_was_sent_is_not_its_sender(senders: Senders) -> None:
    before = now() - 20_000_000
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as later:
        assert senders.cgroup_of(later.pid, before) is None
        # And is remembered as itself.
        assert senders.cgroup_of(later.pid, now()) is not None
        assert senders.cgroup_of(later.pid, before) is None
        later.kill()


def test_a_cgroup_that_is_not_there_is_none(tmp_path: Path) -> None:
    senders = Senders(tmp_path / "nowhere")
    assert senders.cgroup_of(os.getpid(), now()) is None
    senders.close()


def test_a_stream_tells_who_connected(sockets: IngestSockets, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.connect(str(path) + TEXT_SUFFIX)
        connection, _address = sockets.text.accept()
        with connection:
            assert peer_pid(connection) == os.getpid()


def test_sockets_take_the_place_of_dead_ones_and_of_nothing_else(path: Path) -> None:
    first = IngestSockets(path, None, 0o660)
    assert path.stat().st_mode & 0o777 == 0o660
    with pytest.raises(UsageError, match="cannot listen"):
        IngestSockets(path, None, 0o660)
    # As a run that is killed leaves them.
    first.datagrams.close()
    first.text.close()
    second = IngestSockets(path, None, 0o660)
    first.remove()
    assert path.exists()
    second.remove()
    assert not list(path.parent.iterdir())
    path.write_text("mine")
    with pytest.raises(UsageError, match="cannot listen"):
        IngestSockets(path, None, 0o660)
    assert path.read_text() == "mine"
    path.unlink()
    (path.parent / (path.name + TEXT_SUFFIX)).mkdir()
    with pytest.raises(UsageError, match="cannot listen"):
        IngestSockets(path, None, 0o660)
    assert not path.exists()
