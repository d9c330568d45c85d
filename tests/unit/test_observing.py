# SPDX-License-Identifier: Apache-2.0
"""The thread of a reader, with readers that do as the tests need, and the labelling of what they give."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from tracer.cgroup_event import CgroupEvent
from tracer.containers.identity import ContainerKey
from tracer.containers.inventory import Inventory
from tracer.containers.runtime_state import ContainerNames
from tracer.kernel.clock import ClockAnchor, RunClock
from tracer.pipeline import observing as observing_module
from tracer.pipeline.housekeeping.health import ReaderHealth
from tracer.pipeline.labelling import Labelling
from tracer.pipeline.observing import Observing
from tracer.readers.protocol import Cgroup, Observation, Reader
from tracer.store.parquet import conform
from tracer.store.schemas import PROCESSES, RESOURCES, Table

ANCHOR = ClockAnchor(realtime_ns=1_795_305_600 * 10**9, monotonic_ns=0, uncertainty_ns=0)
CONTAINER = f"kubepods/pod11111111-2222-3333-4444-555555555555/{'a' * 64}"


class Kept:
    """In the place of the store's stage: rows as the store would take them."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []

    @property
    def rows(self) -> list[pl.DataFrame]:
        return [pl.DataFrame(table) for table in self.tables]

    def put(self, table: Table, rows: pa.Table) -> None:
        if rows.num_rows:
            self.tables.append(conform(table, rows))


class Told(Reader):
    """Gives a row a cgroup, and remembers what it was asked."""

    name = "told"

    def __init__(self, *, fails: bool = False, costs_s: float = 0) -> None:
        self.passes: list[list[Cgroup]] = []
        self.endings: list[list[Cgroup]] = []
        self._told = 0
        self.closed = threading.Event()
        self.passed = threading.Semaphore(0)
        self._fails = fails
        self._costs_s = costs_s

    def read(self, cgroups: Sequence[Cgroup]) -> Observation:
        end = time.thread_time() + self._costs_s
        while time.thread_time() < end:
            pass
        self.passes.append(list(cgroups))
        self.passed.release()
        if self._fails:
            raise ValueError("as the test wants it")
        return Observation({"resources": resources(*(cgroup.cgroup_id for cgroup in cgroups))}, {"process_reads": 1})

    def read_ending(self, cgroups: Sequence[Cgroup]) -> None:
        self.endings.append(list(cgroups))
        self.passed.release()

    def take_looks(self) -> Observation:
        ended = [cgroup.cgroup_id for cgroups in self.endings[self._told :] for cgroup in cgroups]
        self._told = len(self.endings)
        return Observation({"resources": resources(*ended)}, notes=["one has ended"] * bool(ended))

    def close(self) -> None:
        self.closed.set()


def resources(*cgroup_ids: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"cgroup_id": cgroup_ids, "monotonic_ns": 7, "cpu_usage_usec": 5},
        schema={"cgroup_id": pl.UInt64, "monotonic_ns": pl.Int64, "cpu_usage_usec": pl.UInt64},
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / CONTAINER / "init").mkdir(parents=True)
    return tmp_path


def labelling(inventory: Inventory, kept: Kept) -> Labelling:
    return Labelling(inventory, kept, clock=RunClock(ANCHOR), node_name="node-1")  # type: ignore[arg-type]


@pytest.fixture
def observe(tree: Path) -> Any:
    threads = []

    def start(reader: Reader, *, interval_ns: int = 10**9) -> tuple[Observing, ReaderHealth, list[str], Kept]:
        health, notes, kept = ReaderHealth(), [], Kept()
        inventory = Inventory(tree)
        thread = Observing(
            reader, interval_ns, inventory=inventory, labelling=labelling(inventory, kept), health=health,
            note=notes.append,
        )  # fmt: skip
        threads.append(thread)
        thread.start()
        return thread, health, notes, kept

    yield start
    for thread in threads:
        thread.finish()
        thread.join()


def test_the_first_pass_is_at_once_and_has_all_cgroups(observe: Callable[..., Any]) -> None:
    reader = Told()
    thread, health, notes, kept = observe(reader)
    assert reader.passed.acquire(timeout=10)
    thread.finish()
    thread.join()
    assert reader.closed.is_set()
    assert {(cgroup.path, cgroup.kind, cgroup.is_inner) for cgroup in reader.passes[0]} == {
        ("/", "other", False),
        ("/kubepods", "qos", False),
        (f"/{CONTAINER.rpartition('/')[0]}", "pod", False),
        (f"/{CONTAINER}", "container", False),
        (f"/{CONTAINER}/init", "container", True),
    }
    assert kept.rows[0].height == 5
    counts = health.take()
    assert counts["process_reads"] == len(reader.passes)
    assert counts["reader_pass_max_ns"] > 0
    assert notes == []


def test_a_reader_that_fails_ends_with_a_note(observe: Callable[..., Any]) -> None:
    reader = Told(fails=True)
    thread, _health, notes, _kept = observe(reader)
    thread.join()
    assert reader.closed.is_set()
    assert notes == ["told: not read any more, from here on: ValueError('as the test wants it')"]


def test_one_that_costs_too_much_is_asked_more_rarely_and_a_note_says_so(observe: Callable[..., Any]) -> None:
    reader = Told(costs_s=0.2)
    _thread, health, notes, _kept = observe(reader, interval_ns=100_000_000)
    for _ in range(2):
        assert reader.passed.acquire(timeout=30)
    while not notes:
        time.sleep(0.01)
    assert notes[0].startswith("told: read each ")
    assert (takes := re.search(r"not each 0.1 s: a pass takes (\d+) ms", notes[0]))
    assert int(takes[1]) >= 200
    assert health.take()["reader_passes_left_out"] >= 3


def test_a_last_look_at_a_cgroup_that_ends(observe: Callable[..., Any], tree: Path) -> None:
    reader = Told()
    thread, _health, notes, _kept = observe(reader, interval_ns=3600 * 10**9)
    assert reader.passed.acquire(timeout=10)
    cgroup_id = (tree / CONTAINER).stat().st_ino
    thread.see_end(cgroup_id)
    thread.see_end(12345)
    assert reader.passed.acquire(timeout=10)
    thread.finish()
    thread.join()
    assert [cgroup.cgroup_id for cgroups in reader.endings for cgroup in cgroups] == [cgroup_id]
    assert "one has ended" in notes


def test_what_looks_found_is_handed_on_with_the_next_pass_or_sooner_if_that_is_far(
    observe: Callable[..., Any], tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing_module, "_HOLD_NS", 10_000_000)
    reader = Told()
    thread, _health, notes, kept = observe(reader, interval_ns=3600 * 10**9)
    assert reader.passed.acquire(timeout=10)
    cgroup_id = (tree / CONTAINER).stat().st_ino
    thread.see_end(cgroup_id)
    while "one has ended" not in notes:
        time.sleep(0.01)
    assert kept.rows[-1]["cgroup_id"].to_list() == [cgroup_id]
    assert len(reader.passes) == 1


def test_columns_that_are_left_out_are_null_and_times_are_utc(tree: Path) -> None:
    kept = Kept()
    cgroup_id = (tree / CONTAINER).stat().st_ino
    rows = pl.DataFrame(
        [(cgroup_id, 2_000_000_000, 5, "sh", 1_000_000_000, 1, 0, 0, 4096)],
        schema={
            "cgroup_id": pl.UInt64, "monotonic_ns": pl.Int64, "pid": pl.UInt32, "comm": pl.String,
            "start_time": pl.Int64, "threads": pl.UInt32, "cpu_user_ns": pl.UInt64, "cpu_system_ns": pl.UInt64,
            "rss_bytes": pl.UInt64,
        },
        orient="row",
    )  # fmt: skip
    labelling(Inventory(tree), kept).put(PROCESSES, rows)
    (row,) = kept.rows[0].to_dicts()
    assert list(row) == PROCESSES.schema.names
    assert (str(row["time"]), str(row["start_time"])) == ("2026-11-22 00:00:02+00:00", "2026-11-22 00:00:01+00:00")
    assert (row["cgroup_kind"], row["container_id"], row["node_name"]) == ("container", "a" * 64, "node-1")
    assert row["pss_bytes"] is None


def test_pairs_are_a_map(tree: Path) -> None:
    kept = Kept()
    ids = [(tree / path).stat().st_ino for path in ("", CONTAINER)]
    pairs = [[{"key": "memory.stat.new", "value": 2**63 - 1}, {"key": "x", "value": 2**64 - 1}], None]
    dtype = pl.List(pl.Struct({"key": pl.String, "value": pl.UInt64}))
    rows = resources(*ids).with_columns(pl.Series("extra", pairs, dtype))
    labelling(Inventory(tree), kept).put(RESOURCES, rows)
    extra = dict(zip(kept.tables[0]["cgroup_id"].to_pylist(), kept.tables[0]["extra"].to_pylist(), strict=True))
    assert extra == {ids[0]: [("memory.stat.new", 2**63 - 1), ("x", None)], ids[1]: None}


def test_rows_wait_for_names_and_are_handed_on_at_the_end(tree: Path) -> None:
    now = [100.0]
    inventory = Inventory(tree, lambda: now[0], expect_names=True)
    kept = Kept()
    labels = labelling(inventory, kept)
    ids = [(tree / path).stat().st_ino for path in ("", CONTAINER)]
    labels.put(RESOURCES, resources(*ids))
    assert [rows["cgroup_id"].to_list() for rows in kept.rows] == [[ids[0]]]
    inventory.give_names(ContainerKey("a" * 64), ContainerNames(runtime="containerd", container_name="web"), "nri")
    labels.put(RESOURCES, resources(ids[0]).with_columns(pl.lit(1, pl.UInt64).alias("cpu_weight")))
    assert kept.rows[1].sort("cgroup_id").select("cgroup_id", "container_name").rows() == sorted(
        [(ids[0], None), (ids[1], "web")]
    )
    inventory.see(CgroupEvent(1, "created", 4242, f"/{'b' * 64}"), "kernel")
    labels.put(RESOURCES, resources(4242))
    assert len(kept.rows) == 2
    labels.flush()
    assert kept.rows[2]["container_id"].to_list() == ["b" * 64]


def test_rows_have_the_name_of_their_time(tree: Path) -> None:
    inventory = Inventory(tree)
    key, kept = ContainerKey("a" * 64), Kept()
    labels = labelling(inventory, kept)
    container, child = ((tree / path).stat().st_ino for path in (CONTAINER, f"{CONTAINER}/init"))
    for name, since_ns in (("first", None), ("second", 2_000_000_000), ("third", 3_000_000_000)):
        names = ContainerNames(runtime="docker", container_name=name)
        inventory.give_names(key, names, "runtime", since_ns)
    seconds = (1, 1.999_999_999, 2, 2.999_999_999, 3, 4)
    labels.put(
        RESOURCES,
        pl.concat(
            resources(cgroup_id).with_columns(monotonic_ns=pl.lit(round(second * 1e9), pl.Int64))
            for second in seconds
            for cgroup_id in (container, child, 4242)
        ),
    )
    labels.flush()
    rows = pl.concat(kept.rows, how="vertical_relaxed").sort("time")
    for cgroup_id in (container, child):
        of_cgroup = rows.filter(cgroup_id=cgroup_id)
        assert of_cgroup["container_name"].to_list() == ["first", "first", "second", "second", "third", "third"]
        assert of_cgroup["container_id"].unique().to_list() == ["a" * 64]
    assert rows.filter(cgroup_id=4242)["cgroup_kind"].to_list() == ["unknown"] * 6
    assert rows.height == 18
