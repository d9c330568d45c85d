# SPDX-License-Identifier: Apache-2.0
"""From an application's message on the socket to a labelled row: with real sockets, threads and processes.

A directory is the cgroup2 tree; this process is in one of its containers.
"""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from tracer.containers.inventory import Inventory
from tracer.ingest.messages import Message
from tracer.ingest.sockets import TEXT_SUFFIX, IngestSockets
from tracer.kernel.clock import RunClock, measure_anchor
from tracer.pipeline.housekeeping.health import ReaderHealth
from tracer.pipeline.ingesting import DatagramIngesting, TextIngesting
from tracer.pipeline.intake import Intake, monotonic_ns
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.senders import Senders
from tracer.pipeline.stage import await_end
from tracer.store.schemas import EXTERNAL, Table

TICK_NS, WINDOW_TICKS = 1_000_000, 60
WINDOW_NS = TICK_NS * WINDOW_TICKS
CONTAINER_ID = "0123456789abcdef" * 4
CONTAINER = f"system.slice/docker-{CONTAINER_ID}.scope"


class Node:
    """A node with a container and a second cgroup, and all that takes messages of them."""

    def __init__(self, directory: Path, *, own_path: str = CONTAINER) -> None:
        self.root = directory / "cgroups"
        self.own, self.other = self.root / CONTAINER, self.root / "other.service"
        for cgroup in (self.own / "inner", self.other):
            cgroup.mkdir(parents=True)
        proc = directory / "proc" / str(os.getpid())
        proc.mkdir(parents=True)
        (proc / "stat").write_bytes(Path("/proc/self/stat").read_bytes())
        (proc / "cgroup").write_text(f"0::/{own_path}\n")
        self.rows: list[pa.Table] = []
        self.notes: list[str] = []
        self.health = ReaderHealth()
        self.clock = RunClock(measure_anchor())
        self.begun_ns = monotonic_ns()
        inventory = Inventory(self.root)
        self.intake = Intake(
            inventory=inventory,
            clock=self.clock,
            labelling=Labelling(inventory, self, clock=self.clock, node_name="node-1"),
            health=self.health,
            tick_ns=TICK_NS,
            window_ticks=WINDOW_TICKS,
            first_tick=self.begun_ns // TICK_NS - 100 * WINDOW_TICKS,
        )
        self.path = directory / "ingest.sock"
        self.sockets = IngestSockets(self.path, None, 0o666)
        self.sockets.begin()
        self.threads = (
            DatagramIngesting(self.sockets.datagrams, self.intake, Senders(self.root, proc.parent), self.notes.append),
            TextIngesting(self.sockets.text, self.intake, Senders(self.root, proc.parent), self.notes.append),
        )

    def put(self, table: Table, rows: pa.Table) -> None:
        """As the sink that it is."""
        assert table is EXTERNAL
        assert rows.schema.names == EXTERNAL.schema.names
        self.rows.append(rows)

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def end(self) -> pl.DataFrame:
        """All rows."""
        if self.threads[0].ident is not None:
            for thread in self.threads:
                thread.finish()
            assert not await_end(self.threads, 30)
        self.intake.hand_on()
        self.sockets.remove()
        rows = pl.from_arrow(pa.concat_tables(self.rows))
        assert isinstance(rows, pl.DataFrame)
        return rows

    def send(self, *datagrams: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(str(self.path))
            for datagram in datagrams:
                client.send(datagram)

    def counts(self) -> dict[str, int]:
        return {
            name.removeprefix("external_"): number
            for name, number in self.health.take().items()
            if name.startswith("external_") and number
        }


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path)
    yield node
    node.sockets.remove()


def test_a_datagram_becomes_rows_of_its_senders_container(node: Node) -> None:
    node.start()
    begun = time.time_ns()
    node.send(b"http.request:8:9|ms|@0.5|#path:/a", b"hits:2|c\n_e{1,1}:a|b\nhits:3|c\nx", b"_sc|db|0")
    ended = time.time_ns()
    rows = node.end()
    assert set(rows["cgroup_id"]) == {node.own.stat().st_ino}
    assert set(rows["container_id"]) == {CONTAINER_ID}
    assert set(rows["sender_by"]) == {"credentials"}
    told = set(rows.select("name", "kind", "tags", "value", "count").iter_rows())
    assert told >= {("http.request", "timer", "path:/a", 8.0, 2.0), ("http.request", "timer", "path:/a", 9.0, 2.0)}
    assert rows.filter(name="hits")["value"].sum() == 5
    # Each in its window, and the window is one of the run's.
    starts = rows["time"].dt.epoch("ns")
    assert ((starts > begun - WINDOW_NS - 20_000_000) & (starts <= ended)).all()
    assert (rows["window_tick"] % WINDOW_TICKS == 0).all()
    exact = pl.Series([node.clock.utc_ns(tick * TICK_NS) // 1000 for tick in rows["window_tick"]])
    assert (rows["time"].dt.epoch("us") == exact).all()
    assert node.counts() == {"messages": 6, "messages_ignored": 2, "messages_malformed": 1}
    assert node.intake.summary is not None
    assert "6 messages" in node.intake.summary
    assert not node.notes


def test_what_waits_long_for_the_tracer_is_of_the_time_at_which_it_was_sent(node: Node) -> None:
    # The thread begins late, or is held up: the kernel's time decides.
    sent_ns = monotonic_ns()
    node.send(b"a:1|ms")
    after_ns = monotonic_ns()
    time.sleep(4 * WINDOW_NS / 1e9)
    node.start()
    rows = node.end()
    begin_ns = rows["window_tick"].item() * TICK_NS
    assert sent_ns - WINDOW_NS - 20_000_000 < begin_ns <= after_ns


def test_a_text_becomes_rows_too(node: Node) -> None:
    node.start()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(node.path) + TEXT_SUFFIX)
        client.sendall(b'# TYPE a counter\na_total{b="c"} 5\n# EOF\n')
        client.shutdown(socket.SHUT_WR)
        # Until it was read.
        assert client.recv(1) == b""
    rows = node.end()
    assert rows.select("cgroup_id", "name", "kind", "tags", "value", "count").rows() == [
        (node.own.stat().st_ino, "a_total", "cumulative", "b:c", 5.0, 1.0)
    ]


def test_a_sender_that_nobody_knows_has_rows_without_a_cgroup(tmp_path: Path) -> None:
    node = Node(tmp_path, own_path="../elsewhere")
    node.start()
    node.send(f"a:1|ms|c:in-{node.other.stat().st_ino}".encode())
    rows = node.end()
    assert rows.select("cgroup_id", "cgroup_kind", "sender_by", "value").rows() == [(None, "unknown", None, 1.0)]
    assert node.counts() == {"messages": 1, "senders_unknown": 1}


def test_a_claim_moves_nothing_where_the_kernel_vouches_for_the_sender(node: Node) -> None:
    own, other = node.own.stat().st_ino, node.other.stat().st_ino
    inner = (node.own / "inner").stat().st_ino
    for claim in (f"in-{own}", f"ci-{CONTAINER_ID}", CONTAINER_ID, f"ci-{CONTAINER_ID},in-{own}"):
        node.intake.take(Message("a", "timer", (1.0,), claim=claim), inner, monotonic_ns())
    for claim in (f"in-{other}", "in-x", "ci-y", "in-" + "9" * 100, ""):
        node.intake.take(Message("b", "timer", (1.0,), claim=claim), own, monotonic_ns())
    rows = node.end()
    assert set(rows.filter(name="a")["cgroup_id"]) == {inner}
    assert set(rows.filter(name="b")["cgroup_id"]) == {own}
    assert set(rows["sender_by"]) == {"credentials"}
    assert node.counts() == {"messages": 9, "claims_refused": 5}


def test_a_claim_is_all_there_is_where_the_kernel_cannot_say(node: Node) -> None:
    other = node.other.stat().st_ino
    for name, claim in (("a", f"in-{other}"), ("b", f"ci-{CONTAINER_ID}"), ("c", "in-1"), ("d", None)):
        node.intake.take(Message(name, "timer", (1.0,), claim=claim), None, monotonic_ns(), can_claim=True)
    rows = node.end().sort("name").select("name", "cgroup_id", "sender_by").rows()
    assert rows == [
        ("a", other, "claim"), ("b", node.own.stat().st_ino, "claim"), ("c", None, None), ("d", None, None),
    ]  # fmt: skip


def test_late_counts_are_of_the_window_of_their_own_time(node: Node) -> None:
    now_ns = monotonic_ns()
    for name, age_ns in (("a", 0), ("b", 3_500_000_000), ("c", 4_700_000_000), ("d", -2_000_000_000)):
        time_s = node.clock.utc_ns(now_ns - age_ns) / 1e9
        node.intake.take(Message(name, "gauge", (1.0,), time_s=time_s), node.own.stat().st_ino, now_ns)
    node.intake.take(Message("e", "gauge", (1.0,), time_s=float("nan")), node.own.stat().st_ino, now_ns)
    rows = node.end().sort("name")
    assert rows["name"].to_list() == ["a", "b"]
    ages = now_ns // TICK_NS - rows["window_tick"]
    assert 0 <= ages[0] <= WINDOW_TICKS + 1
    assert 3500 <= ages[1] <= 3500 + WINDOW_TICKS + 1
    assert node.counts() == {"messages": 5, "messages_late": 3}


def test_who_sends_too_much_is_counted_and_the_node_is_left_alone(node: Node) -> None:
    datagram = b"\n".join([b"a:1|ms"] * 1000)
    node.start()
    node.send(*[datagram] * 40, *[b"b:1|c"] * 10)
    rows = node.end()
    counts = node.counts()
    assert counts["messages"] + counts["messages_dropped"] == 40_010
    assert counts["messages_dropped"] > 0
    assert rows["count"].sum() == counts["messages"]


def test_a_thread_that_breaks_is_a_note_and_holds_nobody_up(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(node.intake, "allows", fail)
    node.start()
    node.send(b"a:1|ms")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(node.path) + TEXT_SUFFIX)
        client.sendall(b"a 1\n# EOF\n")
        # Until the connection is closed.
        assert client.recv(1) == b""
    for thread in node.threads:
        thread.join(30)
    assert [note.partition(" of ")[0] for note in sorted(node.notes)] == ["datagrams", "texts"]
    # More than any queue holds.
    node.send(*[b"a:1|ms"] * 5000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client, pytest.raises(ConnectionRefusedError):
        client.connect(str(node.path) + TEXT_SUFFIX)
