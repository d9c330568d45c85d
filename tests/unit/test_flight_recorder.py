# SPDX-License-Identifier: Apache-2.0
"""A flight recorder: what it keeps, what it writes, and that each row has a place."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import polars as pl
import pyarrow as pa
import pytest
from manifest_examples import example_manifest
from store_examples import MIDNIGHT_NS, SECOND_NS, example_rows, files_below, new_store

from tracer.naming import Who
from tracer.pipeline.sinks import recording
from tracer.pipeline.sinks.recording import FlightRecorder
from tracer.recorder.memory import Memory
from tracer.recorder.met import Met
from tracer.recorder.occasions import RuleLimit
from tracer.store.manifest import Instant, Manifest, Occasion, Totals, encode_manifest
from tracer.store.schemas import HEALTH, TICKS, WINDOWS, Table
from tracer.store.writer import JournalOptions, Store

BEGIN_NS = 1_000 * SECOND_NS
MARK = Occasion(reason="mark", at=Instant.of(MIDNIGHT_NS), note="a deploy")


def some_rows(table: Table, number: int, count: int = 3) -> pa.Table:
    """Of the second `number`."""
    rows = example_rows(table, [MIDNIGHT_NS + number * SECOND_NS + 1000 * row for row in range(count)], salt=number)
    if table is WINDOWS:
        # Ticks of 1 ms, the clock's.
        for name, value in (("window_tick", BEGIN_NS // 1_000_000 + 1000 * number), ("ticks", 1000)):
            place = rows.column_names.index(name)
            rows = rows.set_column(place, name, pa.array([value] * count, rows.schema.field(name).type))
    return rows


class Clock:
    """CLOCK_MONOTONIC, as the test sets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ns = BEGIN_NS
        monkeypatch.setattr(recording, "_now_ns", lambda: self.now_ns)
        monkeypatch.setattr(recording, "_LOOK_SECONDS", 0.002)


class Rules:
    """A judge for whom a rule holds when the test says so."""

    def __init__(self) -> None:
        self.met: list[Met] = []
        self.left_out = 0

    def look(self, _table: Table, _rows: pa.Table) -> list[Met]:
        met, self.met = self.met, []
        return met


class Run:
    """A recorder that is fed by the test."""

    def __init__(self, output: Path, *, keep_s: float = 60, after_s: float = 5, memory_bytes: int = 1 << 24,
                 new: Callable[[UUID], Store] | None = None) -> None:  # fmt: skip
        self.output = output
        self.told: list[str] = []
        self.rules = Rules()
        self.given: Counter[str] = Counter()
        self.recorder = FlightRecorder(
            threading.Event(),
            queue_bytes=1 << 24,
            tick_ns=1_000_000,
            keep_ns=int(keep_s * SECOND_NS),
            memory_bytes=memory_bytes,
            after_ns=int(after_s * SECOND_NS),
            judge=self.rules,
            limit=RuleLimit(600 * SECOND_NS, 6),
            new_store=new or self._new_store,
            manifest=lambda: example_manifest(totals=self._totals(), first_tick=0),
            run_totals=self._totals,
            utc_ns=lambda ns: MIDNIGHT_NS + ns,
            tell=self.told.append,
        )

    def _new_store(self, run_id: UUID) -> Store:
        return new_store(self.output, run_id=run_id, journal=JournalOptions(False, self.told.append))

    def _totals(self) -> Totals:
        # As of a run of which each record is a row.
        return Totals(records=self.given["windows"])

    def put(self, number: int) -> None:
        """A second of some tables."""
        for table in (WINDOWS, TICKS, HEALTH):
            rows = some_rows(table, number)
            self.given[table.name] += rows.num_rows
            self.recorder.put(table, rows)

    def settle(self) -> None:
        """Until all that was given has been taken, and looked at."""
        self.wait_until(lambda: not self.recorder.bytes_queued)
        time.sleep(0.05)

    def wait_until(self, has_happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not has_happened():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @contextmanager
    def going(self) -> Iterator[None]:
        self.recorder.start()
        yield
        self.recorder.finish()
        self.recorder.join(30)
        assert self.recorder.failure is None

    def numbers(self, manifest: Manifest) -> set[int]:
        """The seconds whose windows are in a recording."""
        files = self.output.glob(f"windows/*/*/*-{manifest.run_id.hex[:8]}-*.parquet")
        starts = pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])["window_start"]
        return {int((one - MIDNIGHT_NS / 1e3) // 1e6) for one in starts.dt.epoch("us")}

    def require_all_accounted(self) -> None:
        recorder = self.recorder
        stored = Counter(recorder.totals.rows)
        assert stored + recorder.rows_let_go + recorder.rows_refused == recorder.rows_received == self.given


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_without_an_occasion_nothing_is_written(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path)
    with run.going():
        for number in range(10):
            run.put(number)
            clock.now_ns += SECOND_NS
    assert files_below(tmp_path) == []
    assert run.recorder.rows_let_go == run.given
    assert run.recorder.recordings == []
    run.require_all_accounted()


def test_what_was_there_before_and_what_comes_after_is_written(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path, after_s=5)
    with run.going():
        for number in range(40):
            run.put(number)
            run.settle()
            if number == 20:
                assert "written" in run.recorder.ask(MARK)
            clock.now_ns += SECOND_NS
    (manifest,) = run.recorder.recordings
    (path,) = tmp_path.glob("runs/*/session.json")
    assert path.read_bytes() == encode_manifest(manifest)
    assert manifest.status == "finished"
    assert manifest.recorder is not None
    assert manifest.recorder.occasions == [MARK]
    numbers = run.numbers(manifest)
    assert {*range(25)} <= numbers
    assert max(numbers) <= 27
    assert manifest.totals.rows_unaccounted == {}
    assert manifest.totals.records_unaccounted == 0
    # Its journals are gone.
    assert not list(tmp_path.glob("runs/*/journal"))
    run.require_all_accounted()
    assert run.recorder.rows_let_go["windows"] > 0
    assert any("a deploy" in line for line in run.told)


def test_an_occasion_while_it_is_written_makes_it_longer(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path, after_s=4)
    with run.going():
        for number in range(20):
            run.put(number)
            run.settle()
            if number in (5, 7):
                run.recorder.ask(MARK)
            clock.now_ns += SECOND_NS
    (manifest,) = run.recorder.recordings
    assert manifest.recorder is not None
    assert len(manifest.recorder.occasions) == 2
    # Each mark is heard before the clock's next second or after it.
    assert {*range(11)} <= run.numbers(manifest)
    run.require_all_accounted()


def test_who_asks_a_thousand_times_holds_up_nothing(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path, after_s=4)
    with run.going():
        for number in range(10):
            run.put(number)
            run.settle()
            if number == 5:
                for _mark in range(5000):
                    run.recorder.ask(MARK)
            clock.now_ns += SECOND_NS
    (manifest,) = run.recorder.recordings
    assert manifest.recorder is not None
    assert len(manifest.recorder.occasions) == 64
    assert len(manifest.recorder.occasions) + manifest.recorder.occasions_left_out == 5000
    assert len(run.told) < 100
    run.require_all_accounted()


def test_a_row_is_in_one_recording(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path, after_s=2)
    with run.going():
        for number in range(20):
            run.put(number)
            run.settle()
            if number in (5, 12):
                run.recorder.ask(MARK)
            clock.now_ns += SECOND_NS
    first, second = run.recorder.recordings
    assert run.numbers(first).isdisjoint(run.numbers(second))
    assert run.numbers(first) | run.numbers(second) >= {*range(14)}
    assert first.recorder is not None
    assert second.recorder is not None
    assert (first.recorder.continues, second.recorder.continues) == (None, first.run_id)
    run.require_all_accounted()


def test_what_is_too_old_is_let_go(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path, keep_s=10, after_s=0)
    with run.going():
        for number in range(40):
            run.put(number)
            run.settle()
            clock.now_ns += SECOND_NS
        run.recorder.ask(MARK)
        run.settle()
    (manifest,) = run.recorder.recordings
    numbers = run.numbers(manifest)
    # A segment is 5 s.
    assert {*range(30, 40)} <= numbers
    assert min(numbers) >= 24
    run.require_all_accounted()


@pytest.mark.usefixtures("clock")
def test_an_occasion_that_is_not_over_at_the_end_is_written(tmp_path: Path) -> None:
    run = Run(tmp_path, after_s=1000)
    with run.going():
        run.put(0)
        run.settle()
        run.recorder.ask(MARK)
        run.settle()
        run.put(1)
    (manifest,) = run.recorder.recordings
    assert run.numbers(manifest) == {0, 1}
    run.require_all_accounted()


def test_a_rule_is_heard_once_in_a_while(tmp_path: Path, clock: Clock) -> None:
    run = Run(tmp_path, after_s=1)
    rule = Met(rule="lost>0", who=Who(node_name="node-1"), name="node-1", value="7/s", start_ns=5, end_ns=9, others=2)
    with run.going():
        for number in range(30):
            run.rules.met = [rule] if number % 10 == 5 else []
            run.put(number)
            run.settle()
            clock.now_ns += SECOND_NS
        run.recorder.ask(MARK)
        run.settle()
    first, second = run.recorder.recordings
    assert first.recorder is not None
    assert second.recorder is not None
    (occasion,) = first.recorder.occasions
    assert (occasion.reason, occasion.rule, occasion.who, occasion.others) == ("rule", "lost>0", "node-1", 2)
    assert second.recorder.suppressed == {"lost>0": 2}
    assert "node-1 7/s and 2 more (lost>0)" in "\n".join(run.told)


def test_a_disk_that_fails_is_told_and_rows_are_counted(tmp_path: Path, clock: Clock) -> None:
    output = tmp_path / "output"
    run = Run(output, after_s=2)
    with run.going():
        run.put(0)
        run.settle()
        output.write_text("in the way")
        run.recorder.ask(MARK)
        run.wait_until(lambda: run.recorder.outage.is_now)
        clock.now_ns += 20 * SECOND_NS
        run.wait_until(lambda: len(run.recorder.incomplete) == 1)
        output.unlink()
    assert (len(run.recorder.incomplete), run.recorder.recordings) == (1, [])
    totals = run.recorder.totals
    assert Counter(totals.rows) + totals.lost.rows + Counter(totals.rows_in_journals) == run.given


def test_rows_come_out_of_memory_as_they_went_in() -> None:
    memory: Memory[int] = Memory(60 * SECOND_NS, 1 << 24, 0)
    for number in range(100):
        memory.put(WINDOWS, some_rows(WINDOWS, number), number)
    assert memory.size > 0
    memory.seal(100, 7)
    assert memory.counted_before() == 0
    segment = memory.take()
    assert segment is not None
    ((table, rows),) = segment.rows()
    assert table is WINDOWS
    assert rows.num_rows == 300
    assert sorted(rows["window_start"].to_pylist()) == sorted(
        time
        for number in range(100)
        for time in some_rows(WINDOWS, number)["window_start"].cast(pa.timestamp("us", "UTC")).to_pylist()
    )
    assert memory.counted_before() == 7
    assert not memory


def test_memory_is_bounded_and_says_so() -> None:
    memory: Memory[int] = Memory(3600 * SECOND_NS, 20_000, 0)
    sealed = 0
    for number in range(50):
        memory.put(TICKS, some_rows(TICKS, number, 500), number * SECOND_NS)
        memory.seal(number * SECOND_NS, number)
        memory.trim(number * SECOND_NS)
        sealed += 500
        assert memory.size <= 20_000 or memory.span_ns(number * SECOND_NS) == 0
    assert memory.is_short
    assert 0 < memory.let_go["ticks"] < sealed
    memory.let_all_go()
    assert memory.let_go["ticks"] == sealed


@pytest.mark.usefixtures("clock")
def test_containers_that_rules_do_not_look_at_are_told_once(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with run.going():
        run.rules.left_out = 3
        run.put(0)
        run.put(1)
        run.settle()
    assert [line for line in run.told if line.startswith("the rules look at a part of the containers only")] == run.told
    assert len(run.told) == 1
