# SPDX-License-Identifier: Apache-2.0
"""The sink that keeps the last minutes in memory, and makes a recording of them when somebody asks or a rule holds."""

import itertools
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import pyarrow as pa

from tracer.errors import OutputError
from tracer.pipeline.sinks.keeping import Keeping, with_what_is_there
from tracer.recorder.memory import Memory
from tracer.recorder.met import Met
from tracer.recorder.occasions import RuleLimit
from tracer.recorder.recording import MOST_OCCASIONS, Recording
from tracer.store.manifest import Instant, Manifest, Occasion, Totals
from tracer.store.outage import Outage
from tracer.store.schemas import Table
from tracer.store.stored import StoreTotals
from tracer.store.writer import Store

_LOOK_SECONDS = 0.1
_CHECKPOINT_SECONDS = 1.0
# Of windows; a node that stands still has none.
_LONGEST_LATENESS_NS = 10_000_000_000
# Of segments that go to the store, before rows that came meanwhile are taken.
_SEGMENTS_AT_ONCE = 4


class Judge(Protocol):
    """Looks at rows by rules."""

    @property
    def left_out(self) -> int:
        """How often rows of some container were not looked at, as there were too many of them."""

    def look(self, table: Table, rows: pa.Table) -> list[Met]:
        """Rules that are met with these rows."""


class FlightRecorder(Keeping):
    """Between occasions nothing is written. From an occasion on all that is in memory is, and what comes for a while.

    An occasion while a recording is written makes that longer. Any thread may `ask`.
    """

    def __init__(
        self,
        stop_run: threading.Event,
        *,
        queue_bytes: int,
        tick_ns: int,
        keep_ns: int,
        memory_bytes: int,
        after_ns: int,
        judge: Judge,
        limit: RuleLimit,
        new_store: Callable[[uuid.UUID], Store],
        manifest: Callable[[], Manifest],
        run_totals: Callable[[], Totals],
        utc_ns: Callable[[int], int],
        tell: Callable[[str], None],
    ) -> None:
        """`after_ns`: how long is written after an occasion. manifest, run_totals: of the whole run.

        `tell`: a line for people.
        """
        super().__init__("recorder", stop_run, queue_bytes=queue_bytes)
        self.recordings: list[Manifest] = []
        """Those that are complete."""
        self.incomplete: list[uuid.UUID] = []
        """Those whose last files or manifest could not be written."""
        self._memory: Memory[Totals] = Memory(keep_ns, memory_bytes, Totals())
        self._tick_ns = tick_ns
        self._after_ns = after_ns
        self._judge = judge
        self._limit = limit
        self._new_store = new_store
        self._manifest = manifest
        self._run_totals = run_totals
        self._utc_ns = utc_ns
        self._tell = tell
        self._asked: deque[tuple[int, Occasion]] = deque(maxlen=MOST_OCCASIONS)
        self._numbers = itertools.count(1)
        self._heard_up_to = 0
        self._recording: Recording | None = None
        self._until_ns = 0
        self._next_checkpoint = 0.0
        self._last_id: uuid.UUID | None = None
        # How much had been let go when the last recording ended.
        self._let_go_then = 0
        self._stored = StoreTotals()
        self._no_outage = Outage(tell, 0)
        self._has_told_shortness = self._has_told_left_out = False

    @property
    def totals(self) -> StoreTotals:
        """Of all recordings so far."""
        with self._lock:
            stored, recording = self._stored, self._recording
            return stored if recording is None else _sum(stored, recording.store.totals)

    @property
    def outage(self) -> Outage:
        """That of the recording that is written."""
        recording = self._recording
        return self._no_outage if recording is None else recording.store.outage

    @property
    def rows_let_go(self) -> Counter[str]:
        """By table: those that nobody asked for in time."""
        return Counter(self._memory.let_go)

    def take_longest_write_ns(self) -> int:
        """Of the recording that is written."""
        recording = self._recording
        return 0 if recording is None else recording.store.take_longest_write_ns()

    def ask(self, occasion: Occasion) -> str:
        """Has the last minutes written; what is done then, for people. Any thread, and a signal's handler, may ask."""
        is_writing = self._recording is not None
        self._ask(occasion)
        seconds = self._after_ns / 1e9
        if is_writing:
            return f"a recording is written already; it goes on for {seconds:g} s from now"
        span_s = self._memory.span_ns(_now_ns()) / 1e9
        return f"the last {span_s:.0f} s are written, and what comes within {seconds:g} s"

    def work(self) -> None:
        """Until `finish`; then a recording that is being written is completed."""
        while True:
            try:
                item = self._rows.take(_LOOK_SECONDS)
            except TimeoutError:
                pass
            else:
                if item is None:
                    break
                with self._writing():
                    self._take_in(*item)
            with self._writing():
                self._look(_now_ns())
        with self._writing():
            self._hear(_now_ns())
            self._memory.seal(_now_ns(), self._run_totals())
            while self._recording is not None and self._store_a_segment():
                pass
        with self._writing():
            self._complete()
        self._memory.let_all_go()
        self.last_manifest = self._manifest()

    def _take_in(self, table: Table, rows: pa.Table) -> None:
        now_ns = _now_ns()
        if self._recording is not None and not self._memory:
            self._recording.see(table, rows)
            self._append(self._recording.store, table, rows)
        else:
            try:
                self._memory.put(table, rows, now_ns)
            except Exception:
                self._refuse(table, rows, "a defect")
                raise
        for met in self._judge.look(table, rows):
            if self._limit.allows(met.rule, now_ns):
                self._ask(self._occasion(met, now_ns))
        if self._judge.left_out and not self._has_told_left_out:
            self._has_told_left_out = True
            self._tell(
                "the rules look at a part of the containers only, as there are too many: "
                "selectors, such as namespace=, or a shorter `for` leave room for more"
            )

    def _ask(self, occasion: Occasion) -> None:
        self._asked.append((next(self._numbers), occasion))

    def _occasion(self, met: Met, now_ns: int) -> Occasion:
        return Occasion(
            reason="rule",
            at=Instant.of(self._utc_ns(now_ns)),
            rule=met.rule,
            who=met.name,
            value=met.value,
            start=Instant.of(met.start_ns),
            end=Instant.of(met.end_ns),
            others=met.others,
        )

    def _look(self, now_ns: int) -> None:
        self._hear(now_ns)
        # Of a recording the rows are to be in its journal soon.
        if self._memory.is_due(now_ns) or (self._recording is not None and self._memory):
            self._memory.seal(now_ns, self._run_totals())
        self._memory.trim(now_ns, by_age=self._recording is None)
        if self._memory.is_short and not self._has_told_shortness:
            self._has_told_shortness = True
            self._tell(
                f"the recorder's memory holds the last {self._memory.span_ns(now_ns) / 1e9:.0f} s only: "
                "a larger --memory-limit holds more"
            )
        if self._recording is None:
            return
        for _segment in range(_SEGMENTS_AT_ONCE):
            if not self._store_a_segment():
                break
        if self._recording.store.rotate_if_due(now_ns, self._take_what_waits):
            self._recording.store.write_manifest(self._recording.manifest(), may_wait=True)
        self._note_totals()
        # Rows come some time after their ticks.
        has_come = self._recording.next_tick * self._tick_ns >= self._until_ns
        if not self._memory and (has_come or now_ns >= self._until_ns + _LONGEST_LATENESS_NS):
            self._complete()

    def _take_what_waits(self) -> None:
        # Of what is slow, this is only the next.
        self._busy_since = time.monotonic()
        with suppress(TimeoutError):
            while (item := self._rows.take(0)) is not None:
                with self.surviving():
                    self._take_in(*item)
        self._note_totals()

    def _hear(self, now_ns: int) -> None:
        """What was asked for since the last time, together: somebody may ask a thousand times a second."""
        heard, newest = [], self._heard_up_to
        while self._asked:
            number, occasion = self._asked.popleft()
            heard.append(occasion)
            newest = max(number, newest)
        if not heard:
            return
        self._until_ns = now_ns + self._after_ns
        if self._recording is None:
            self._begin(now_ns)
        assert self._recording is not None
        # The numbers between are of those for which there was no room.
        self._recording.add(heard, max(0, newest - self._heard_up_to - len(heard)))
        self._heard_up_to = newest
        self._recording.store.write_manifest(self._recording.manifest(), may_wait=True)
        more = f" and {len(heard) - 1} more" if len(heard) > 1 else ""
        self._tell(f"{heard[0].description}{more}: recording {str(self._recording.run_id)[:8]} is written")

    def _begin(self, now_ns: int) -> None:
        self._memory.seal(now_ns, self._run_totals())
        run_id = uuid.uuid4()
        # Nothing is missing since the one before.
        continues = self._last_id if self._memory.let_go.total() == self._let_go_then else None
        self._recording = Recording(
            run_id,
            self._new_store(run_id),
            manifest=self._manifest,
            before=self._memory.counted_before(),
            utc_ns=self._utc_ns,
            continues=continues,
            suppressed=self._limit.take_suppressed(),
        )

    def _store_a_segment(self) -> bool:
        """The oldest; False where there is none."""
        recording, segment = self._recording, self._memory.take()
        if recording is None or segment is None:
            return False
        for table, rows in segment.rows():
            recording.see(table, rows)
            with self.surviving():
                self._append(recording.store, table, rows)
        return True

    def _note_totals(self) -> None:
        if self._recording is not None and (now := time.monotonic()) >= self._next_checkpoint:
            self._next_checkpoint = now + _CHECKPOINT_SECONDS
            self._recording.store.note_totals(self._recording.totals(self._run_totals()))

    def _complete(self) -> None:
        """The recording's last files and its manifest."""
        recording = self._recording
        if recording is None:
            return
        try:
            with self.surviving():
                recording.store.close()
            manifest = with_what_is_there(recording.manifest(is_over=True), recording.store)
            recording.store.write_manifest(manifest)
            recording.store.release()
            self.recordings.append(manifest)
        except OutputError as error:
            # It says `running` still, or is not there at all.
            self.incomplete.append(recording.run_id)
            self._tell(f"recording {str(recording.run_id)[:8]} could not be completed: {error}; see `tracer recover`")
        finally:
            with self._lock:
                self._stored, self._recording = _sum(self._stored, recording.store.totals), None
            self._last_id, self._let_go_then = recording.run_id, self._memory.let_go.total()
            self._memory.skip(self._run_totals())


def _sum(one: StoreTotals, other: StoreTotals) -> StoreTotals:
    return StoreTotals(
        rows=dict(Counter(one.rows) + Counter(other.rows)),
        files=dict(Counter(one.files) + Counter(other.files)),
        bytes=dict(Counter(one.bytes) + Counter(other.bytes)),
        lost=one.lost + other.lost,
        rows_in_journals=dict(Counter(one.rows_in_journals) + Counter(other.rows_in_journals)),
        removed=one.removed + other.removed,
        bytes_waiting=other.bytes_waiting,
    )


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
