# SPDX-License-Identifier: Apache-2.0
"""The manifest of a run, `runs/<run_id>/session.json`: what was run where, and what came of it.

It is written at the start, at each rotation and at the end, each time as a whole. A run that was killed
therefore says `running`, with the totals of its last rotation, until its journals are recovered.
"""

from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from tracer.errors import UsageError
from tracer.store.directories import open_below
from tracer.store.gone import TimeSpan
from tracer.store.layout import manifest_path
from tracer.store.schemas import SCHEMA_VERSION

_LONGEST_FILE = 16 * 2**20

# What 64 bits hold, as the columns of the tables do. Of ns since the epoch, that is until 2262.
_LARGEST = 2**63 - 1
# Ten times the longest tick and window that a run takes.
_LONGEST_TICK_NS = 10**9
_LONGEST_WINDOW = 10**6

Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]
Hexadecimal = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-f]{1,16}$")]


class Instant(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A point in time, UTC: nanoseconds since the epoch, and the same as ISO 8601."""

    utc_ns: Count
    utc: str

    @classmethod
    def of(cls, utc_ns: int) -> "Instant":
        """The instant of `utc_ns` nanoseconds since the epoch."""
        seconds, nanoseconds = divmod(utc_ns, 10**9)
        return cls(utc_ns=utc_ns, utc=f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09}Z")


class Host(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The node. `identifier` is as the user gave it, not as in paths."""

    node_name: str
    identifier: str
    kernel_release: str
    kernel_version: str
    machine: str
    boot_id: str | None
    cpu_model: str | None
    online_cpus: list[Count]


class TopologyChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole topology, from a moment of the run on."""

    valid_from: Instant
    topology: Any


class EncodedEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an event is on one PMU: the kernel's name for it there, and the terms of its encoding."""

    name: str
    encoding: str


class EventOnCpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An event on CPUs where it is the same, and as well or badly counted.

    `cpus` is a list as the kernel writes them. Where the node has several kinds of cores, `pmu` is theirs, and the
    event is encoded for it: a raw one has the type of that PMU, a generic one has it in the upper half of `config`.
    """

    cpus: str
    pmu: str | None = None
    type: Count
    config: Hexadecimal
    counted: bool
    reason_missing: str | None = None


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A counter column and the perf event behind it.

    `type` and `config` are those of perf_event_attr; null if the spec has no encoding on this node. A type of 0 is
    only a name for what differs between processors: `encodings` says by PMU what it is here, where the kernel tells.
    `counted` says whether any CPU counts it, `reason_missing` why none does, and `on_cpus` has both by CPU, as of now.
    """

    column: Literal["cycles", "instructions", "llc_misses"]
    spec: str
    type: Count | None
    config: Hexadecimal | None
    counted: bool
    reason_missing: str | None = None
    encodings: dict[str, EncodedEvent] = {}
    on_cpus: list[EventOnCpus] = []


class ClockAnchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One reading that ties CLOCK_MONOTONIC to UTC."""

    anchor_realtime_ns: int
    anchor_monotonic_ns: int
    uncertainty_ns: Count
    source: str


class Sleep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A time for which the machine was suspended. CLOCK_MONOTONIC stood still, so no tick lies in it.

    Times after `after_monotonic_ns` go through `anchor`, until the next one.
    """

    after_monotonic_ns: int
    slept_ns: Count
    anchor: ClockAnchor


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The wall clock was set by `step_ns`, below 0 back; that was noticed within a second.

    Times after `after_monotonic_ns` go through `anchor`, until the next one of a sleep or a step.
    """

    after_monotonic_ns: int
    step_ns: int
    anchor: ClockAnchor


class Clock(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The anchor that all times of the run go through, and one for those after each sleep or step; another at the end.

    drift_ns: how far the wall clock moved against the run's own.
    """

    start: ClockAnchor
    sleeps: list[Sleep] = []
    steps: list[Step] = []
    end: ClockAnchor | None = None
    drift_ns: int | None = None


class LeftOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was not written for a while as the tracer could not keep up; `end` is None where that was to the end."""

    what: str
    reason: str
    start: Instant
    end: Instant | None


class Occasion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why a flight recorder wrote what it had: a rule that held, or somebody who asked for it (`mark`, `signal`).

    at: when it was noticed. note: of who asked. who, value: for whom the rule held, and what was looked at then.
    start, end: of the time for which it held. others: how many more it held for at the same time.
    """

    reason: Literal["rule", "mark", "signal"]
    at: Instant
    note: str | None = None
    rule: str | None = None
    who: str | None = None
    value: str | None = None
    start: Instant | None = None
    end: Instant | None = None
    others: Count = 0

    @property
    def description(self) -> str:
        """Why, in a line."""
        if self.reason == "rule":
            more = f"and {self.others} more" if self.others else None
            return " ".join(filter(None, (self.who, self.value, more, f"({self.rule})")))
        return f"asked for by {self.reason}" + (f" ({self.note})" if self.note else "")


class Recorder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Of a recording that a flight recorder wrote: why, and what it is a part of.

    tracer_run_id: of the run of `tracer run`, of which there may be several recordings. continues: the recording that
    has the minutes before, where no row is missing in between. suppressed: by rule, how often it held since the last
    recording and was not heard, as it, or all together, had been heard often enough. occasions_left_out: how many there
    were beyond those that are listed.
    """

    tracer_run_id: UUID
    occasions: list[Occasion]
    continues: UUID | None = None
    suppressed: dict[str, Count] = {}
    occasions_left_out: Count = 0


class Span(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The times of a first and a last row."""

    first: Instant
    last: Instant

    @classmethod
    def of(cls, span: TimeSpan) -> "Span":
        """The same, as it is stored."""
        return cls(first=Instant.of(span.first_us * 1_000), last=Instant.of(span.last_us * 1_000))


class Totals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Sums over the run: `rows`, `files` and `bytes` written by table, `lost_by_cpu` by CPU and cause.

    Of `rows_received` by the store, by table, each was written, or lost (`rows_lost_by_table`,
    `rows_lost_by_cause`, within the times of `rows_lost_span`), or is in a journal of which `tracer recover` makes
    a file (`rows_in_journals`), or was let go by a recorder, as nobody asked for it in time (`rows_let_go`).
    `files_removed` counts closed files, of any run, that this run removed to make room, with rows within
    `removed_span`; `rows_removed` are those of them that were this run's own, and `rows_removed_before_upload`, of
    any run, those that were to be uploaded first. `rows_present`, `files_present` and `bytes_present` are what was
    there at the end, whoever removed the rest; null until then. `counter_values_refused` counts values of counters
    that could not be true, and are null. `sums` are of columns of `windows` over the run, but for idle time; a
    column that is null throughout has none. Null: not measured.

    Each of the `records` that came, and each further tick of those that speak of a run of ticks (`records_expanded`),
    was either added to a row of `windows` that was there (`records_merged`), made one that was written, lost or left in
    a journal, was of a tick before or after the run (`records_outside_run`), came to a part of the tracer that had
    failed (`records_unassembled`), or was in no row yet when the run was killed (`records_in_progress`). `records_lost`
    never came.
    """

    rows: dict[str, Count] = {}
    files: dict[str, Count] = {}
    bytes: dict[str, Count] = {}
    rows_received: dict[str, Count] = {}
    rows_lost: Count = 0
    rows_lost_by_table: dict[str, Count] = {}
    rows_lost_span: Span | None = None
    rows_lost_by_cause: dict[str, Count] = {}
    rows_in_journals: dict[str, Count] = {}
    rows_let_go: dict[str, Count] = {}
    files_removed: Count = 0
    removed_span: Span | None = None
    rows_removed: dict[str, Count] = {}
    rows_removed_before_upload: dict[str, Count] = {}
    rows_present: dict[str, Count] | None = None
    files_present: Count | None = None
    bytes_present: Count | None = None
    records: Count = 0
    records_expanded: Count = 0
    records_merged: Count = 0
    records_outside_run: Count = 0
    records_unassembled: Count = 0
    records_in_progress: Count = 0
    records_lost: Count = 0
    lost_by_cpu: dict[Count, dict[str, Count]] = {}
    recursion_misses: Count | None = None
    late_rows: Count = 0
    unknown_rows: Count = 0
    counter_values_refused: Count = 0
    sums: dict[str, int] = {}

    @property
    def records_unaccounted(self) -> int:
        """What the sums above miss, at the end of a run: anything but 0 is a defect."""
        accounted = (
            self.records_merged
            + self._rows_accounted("windows")
            + self.records_outside_run
            + self.records_unassembled
            + self.records_in_progress
        )
        return self.records + self.records_expanded - accounted

    @property
    def rows_unaccounted(self) -> dict[str, int]:
        """By table, what the store received beyond the sums above, at the end of a run: anything is a defect."""
        differences = {table: rows - self._rows_accounted(table) for table, rows in self.rows_received.items()}
        return {table: difference for table, difference in differences.items() if difference}

    def _rows_accounted(self, table: str) -> int:
        return sum(
            rows.get(table, 0) for rows in (self.rows, self.rows_lost_by_table, self.rows_in_journals, self.rows_let_go)
        )


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a reader must know about a run. Change it with `msgspec.structs.replace`.

    `topology` is the node's at the start, and whatever msgspec can encode; it comes back as plain dicts and lists.
    `topology_changes` has it as it was after CPUs came or went; of very many the latest, which `notes` says.
    A run that is killed says `running`, until `tracer recover` or the next run finds it: then it is `crashed`, `end` is
    the time of its last row, `totals` are those of its last second with the rows that were found and, as files and
    bytes, what is there, and `recovered` the rows, by table, that its journals had. `source` is where the records are
    from: a node's kernel, or a simulation of a node that does not exist. `left_out` says which parts of the results
    have a gap. `configuration` holds the options as run. `notes` say why something is null or limited.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: UUID
    source: Literal["kernel", "simulation"] = "kernel"
    status: Literal["running", "finished", "failed", "crashed"]
    exit_reason: str | None = None
    start: Instant
    end: Instant | None = None
    host: Host
    topology: Any
    topology_changes: list[TopologyChange] = []
    events: list[Event]
    clock: Clock
    tick_ns: Annotated[int, msgspec.Meta(gt=0, le=_LONGEST_TICK_NS)]
    window_ticks: Annotated[int, msgspec.Meta(gt=0, le=_LONGEST_WINDOW)]
    first_tick: Count | None = None
    last_tick: Count | None = None
    configuration: dict[str, Any]
    versions: dict[str, str | None]
    git_revision: str | None = None
    totals: Totals = Totals()
    recovered: dict[str, Count] = {}
    left_out: list[LeftOut] = []
    recorder: Recorder | None = None
    notes: list[str] = []

    @property
    def utc_bounds_ns(self) -> tuple[int, int | None]:
        """Between which its times are, in ns since the epoch; the last one is not known of a run without an end.

        Its clock may have been set back, so that neither need be its start or end.
        """
        known = [self.start.utc_ns, *(() if self.end is None else (self.end.utc_ns,))]
        for step in self.clock.steps:
            known += [step.anchor.anchor_realtime_ns - step.step_ns, step.anchor.anchor_realtime_ns]
        return min(known), None if self.end is None else max(known)


class _Version(msgspec.Struct):
    schema_version: int


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as JSON for people and programs."""
    return msgspec.json.format(msgspec.json.encode(_printable(msgspec.to_builtins(manifest))), indent=2) + b"\n"


def read_manifest(path: Path) -> Manifest:
    """The manifest at `path`, checked strictly. Raises UsageError, whatever is there instead."""
    try:
        status = path.stat()
        # A pipe would block, a device might never end.
        if not S_ISREG(status.st_mode) or status.st_size > _LONGEST_FILE:
            raise UsageError(f"{str(path)!r} is not a run's manifest: not a file of at most {_LONGEST_FILE} bytes")
        return _decode(path, path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error}") from error


def read_own_manifest(output: Path, run_id: UUID) -> Manifest:
    """That of a run of `output`, without following a link there. Raises UsageError, also for another run's."""
    path = manifest_path(output, run_id)
    try:
        with open_below(output, path.relative_to(output).parent) as directory, directory.open_file(path.name) as file:
            content = file.read(_LONGEST_FILE)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{str(path)!r} {error}") from error
    manifest = _decode(path, content)
    if manifest.run_id != run_id:
        raise UsageError(f"{str(path)!r} is of another run than its directory")
    return manifest


def _decode(path: Path, content: bytes) -> Manifest:
    """The manifest with this content, checked strictly. Raises UsageError."""
    try:
        version = msgspec.json.decode(content, type=_Version).schema_version
        # Version 2 changed types in the files, and nothing in here.
        if not 1 <= version <= SCHEMA_VERSION:
            raise UsageError(f"{str(path)!r} has schema version {version}; this tracer reads 1 to {SCHEMA_VERSION}")
        return msgspec.json.decode(content, type=Manifest)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{str(path)!r} is not a run's manifest: {error}") from error


def _printable(value: Any) -> Any:
    """`value` without lone surrogates, which stand for bytes of a path or option that are not UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
