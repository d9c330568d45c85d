# SPDX-License-Identifier: Apache-2.0
"""What a run leaves out when it is too much, in which order, and how it comes back; how often it drains the rings."""

from collections.abc import Callable

import pytest

from tracer.kernel.record_block import RecordBlock
from tracer.pipeline.budget import default_cpu_limit, share_out
from tracer.pipeline.housekeeping.drain_interval import DrainInterval
from tracer.pipeline.housekeeping.overload import LeftOut, Overload, Step, Strain
from tracer.pipeline.housekeeping.strain import StrainMeter
from tracer.pipeline.options import DEFAULT_MEMORY_BYTES, LEAST_MEMORY_BYTES

SECOND_NS = 1_000_000_000
MIB = 1 << 20
STRAINED, CALM, BETWEEN = Strain("too much", False), Strain(None, True), Strain(None, False)


class Run:
    """A run whose strain is what a test says, second by second."""

    def __init__(self, *parts: str) -> None:
        self.written = set(parts)
        self.told: list[str] = []
        self.strain = CALM
        self.now = 100
        self.overload = Overload([self._step(part) for part in parts], lambda: self.strain, self.told.append)

    def _step(self, part: str) -> Step:
        return Step(f"no {part}", lambda: self.written.remove(part), lambda: self.written.add(part))

    def passes(self, strain: Strain, seconds: int) -> None:
        self.strain = strain
        for _ in range(seconds):
            self.now += 1
            self.overload.look(self.now * SECOND_NS)


def test_parts_are_left_out_in_order_and_come_back_in_the_other() -> None:
    run = Run("ticks", "waits")
    run.passes(STRAINED, 1)
    assert run.written == {"waits"}
    # A step has its time to help.
    run.passes(STRAINED, 2)
    assert run.written == {"waits"}
    run.passes(STRAINED, 1)
    assert run.written == set()
    run.passes(STRAINED, 20)
    assert run.told[2:] == ["too much, and there is nothing more to leave out"]
    run.passes(CALM, 11)
    assert run.written == {"waits"}
    run.passes(CALM, 11)
    assert run.written == {"ticks", "waits"}
    assert run.overload.left_out == [
        LeftOut("no ticks", "too much", 101 * SECOND_NS, 146 * SECOND_NS),
        LeftOut("no waits", "too much", 104 * SECOND_NS, 135 * SECOND_NS),
    ]


def test_nothing_comes_back_where_it_is_neither_too_much_nor_calm() -> None:
    run = Run("ticks")
    run.passes(STRAINED, 1)
    run.passes(BETWEEN, 600)
    assert run.written == set()
    run.overload.end(1_000 * SECOND_NS)
    assert run.overload.left_out == [LeftOut("no ticks", "too much", 101 * SECOND_NS, 1_000 * SECOND_NS)]


def test_who_is_always_at_the_limit_comes_back_less_and_less_often() -> None:
    run = Run("ticks")
    for _ in range(3_600):
        run.passes(CALM if not run.written else STRAINED, 1)
    # Each second time it waits twice as long, up to some ten minutes.
    assert len(run.overload.left_out) < 15


def meter(**values: Callable[[], float]) -> StrainMeter:
    given: dict[str, Callable[[], float]] = {
        "memory": lambda: 200 * MIB,
        "batches_waiting": lambda: 0.0,
        "ring_fill": lambda: 0.6,
        "rows_waiting": lambda: 0.0,
        "records_lost": lambda: 0,
    } | values
    return StrainMeter(500 * MIB, release_memory=lambda: None, **given)  # type: ignore[arg-type]


def test_what_strains_a_run_is_told() -> None:
    # Once may be a pause of the machine.
    lost = iter([5, 5, 7, 9, 9])
    losing = meter(records_lost=lambda: next(lost))
    come_too_fast = "records come faster than they are worked on"
    assert [losing.measure().reason for _ in range(5)] == [None, None, None, come_too_fast, None]
    behind = meter(batches_waiting=lambda: 1.0)
    assert behind.measure() == Strain(None, False)
    assert behind.measure() == Strain(come_too_fast, False)
    # Late, and nothing is near to be lost.
    late = meter(batches_waiting=lambda: 1.0, ring_fill=lambda: 0.1)
    assert [late.measure(), late.measure()] == [Strain(None, False)] * 2
    assert meter(rows_waiting=lambda: 0.6).measure().reason == "rows come faster than the disk takes them"
    assert meter(memory=lambda: 460 * MIB).measure() == Strain(
        "460 MiB of memory are near --memory-limit (500 MiB)", False
    )
    assert meter(memory=lambda: 400 * MIB).measure() == Strain(None, False)


def test_memory_that_was_only_kept_is_given_back_first() -> None:
    memory = [480 * MIB]
    one = StrainMeter(
        500 * MIB,
        memory=lambda: memory[0],
        release_memory=lambda: memory.__setitem__(0, 300 * MIB),
        batches_waiting=lambda: 0.0,
        ring_fill=lambda: 0.0,
        rows_waiting=lambda: 0.0,
        records_lost=lambda: 0,
    )
    assert one.measure() == Strain(None, True)


@pytest.mark.parametrize("cpus", [1, 2, 64, 512])
@pytest.mark.parametrize("limit", [LEAST_MEMORY_BYTES, DEFAULT_MEMORY_BYTES, 4096 * MIB])
def test_what_is_shared_out_fits(limit: int, cpus: int) -> None:
    budget = share_out(limit, cpus, 3)
    shares = [
        cpus * budget.ring_bytes,
        3 * budget.block_rows * RecordBlock.ROW_BYTES,
        budget.store_bytes,
        budget.queue_bytes,
    ]
    # A part is left for what is not counted; a CPU's ring has a least size.
    assert sum(shares) <= 0.8 * max(40 * MIB, limit - 260 * MIB) or budget.ring_bytes == 1 << 16
    assert budget.block_rows >= 1 << 14


def test_a_row_of_a_block_takes_what_it_is_said_to() -> None:
    assert sum(column.nbytes for column in RecordBlock(1).columns()) == RecordBlock.ROW_BYTES


class Drained:
    """A process that takes so much of a core, by how often it drains the rings."""

    def __init__(self, at_each: float, else_: float = 0.02, limit: float | None = 0.1) -> None:
        self.at_each, self.else_ = at_each, else_
        self.interval_ms, self.fill = 1.0, 0.01
        self.notes: list[str] = []
        self.cpu_ns = 0.0
        self.now = 0
        self.drain = DrainInterval(
            limit, cpu_time_ns=lambda: int(self.cpu_ns), ring_fill=lambda: self.fill * self.interval_ms,
            use=self.use, note=self.notes.append,
        )  # fmt: skip

    def use(self, interval_ns: int) -> None:
        self.interval_ms = interval_ns / 1e6

    def passes(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += SECOND_NS
            self.cpu_ns += (self.at_each / self.interval_ms + self.else_) * SECOND_NS
            self.drain.look(self.now)


def test_rings_are_drained_less_often_where_that_takes_too_much() -> None:
    run = Drained(at_each=0.3)
    run.passes(60)
    assert run.interval_ms == 4
    assert run.notes == [
        "the rings are drained each 2 ms: the tracer took 32.0% of a core, --cpu-limit is 10.0%",
        "the rings are drained each 4 ms: the tracer took 17.0% of a core, --cpu-limit is 10.0%",
    ]
    run.at_each = 0.01
    run.passes(120)
    assert run.interval_ms == 1


def test_rings_that_fill_are_drained_as_often_as_it_takes() -> None:
    run = Drained(at_each=0.3)
    run.fill = 0.15
    run.passes(60)
    assert run.interval_ms == 1
    run.fill = 0.01
    run.passes(60)
    run.fill = 0.1
    run.passes(60)
    assert run.interval_ms <= 2


def test_without_a_bound_nothing_changes() -> None:
    run = Drained(at_each=5.0, limit=float("inf"))
    run.passes(60)
    assert run.interval_ms == 1


def test_the_bound_grows_with_the_node() -> None:
    assert default_cpu_limit(8) == pytest.approx(0.11)
    assert default_cpu_limit(128) == pytest.approx(0.26)
