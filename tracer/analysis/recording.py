# SPDX-License-Identifier: Apache-2.0
"""What one or several `tracer run --output` left, opened as one recording.

A recording is the closed files of any number of directories, runs and nodes. Files that are still being written are
left out, and so is the second copy of a file that lies in two of the directories; `Recording.notes` says so.

Each file's footer is looked at before its rows are: a file that is broken, of a newer schema or of other types is left
out, and named in `Recording.notes`. Columns that an older file does not have are null, columns that nobody knows any
more are ignored, and the types of schema version 1 become those of today.
"""

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, wraps
from pathlib import Path
from typing import Any, NamedTuple, ParamSpec, TypeVar

import narwhals as nw
import polars as pl

from tracer.analysis.engines import TIME_US, Engine, Files
from tracer.analysis.file_checks import RecordedFile, one_line
from tracer.analysis.labels import is_taken, who_is
from tracer.analysis.moments import ends_text, is_relative, parse_moment, zone_at
from tracer.analysis.older_files import as_today
from tracer.analysis.recorded_files import BrokenFilesError, RecordedFiles
from tracer.analysis.runs import ALL, ID_DIGITS, NEWEST, FoundRun, choice_text, choose_runs, find_runs
from tracer.errors import UsageError
from tracer.naming import Selector, Who, shown
from tracer.store.manifest import Manifest
from tracer.store.schemas import TABLES

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Between windows: longer is a pause. At least a second, as rows are looked at by the second.
_PAUSE = timedelta(seconds=2)


class Span(NamedTuple):
    """From `start` to before `end`, both UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Closed files, and how to read them. Made by `open_recording`.

    `places` are what `directories` are called for people, who may have named a URL. `span` is what is read: the rows'
    own times, within what was asked for; always UTC, and `zone` is what times are shown in. `nodes` are the names of
    the nodes with files in it, `manifests` those of the runs that are in it, by start; a run whose manifest is gone has
    none. `containers` and `namespace` are what was asked for: see `is_wanted`.
    `engine` adds up what `rows` gives; None: Polars, as for all else. `choices` say which runs are read, as others are
    newer; for people.
    """

    directories: tuple[Path, ...]
    places: tuple[str, ...]
    manifests: list[Manifest]
    nodes: list[str]
    span: Span
    zone: tzinfo
    containers: Selector
    namespace: str | None
    choices: list[str]
    engine: Engine | None = None
    _files: RecordedFiles = field(repr=False)
    _by_second: dict[tuple[str, Span], pl.DataFrame] = field(repr=False, default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What was left out so far, and why, for people: of a table that nobody asked for yet, nothing is known."""
        return self._files.notes

    def has(self, table: str) -> bool:
        """Whether `table` has a file with rows in the span."""
        return bool(_within(self._files.of(table), self.span))

    def scan(self, table: str, within: Span | None = None) -> pl.LazyFrame:
        """All rows of `table` in the span, with exactly the columns and types of its schema today, in no order.

        `within` is a part of the span. Collect it with `collect`. What is no number is null.
        """
        schema = polars_schema(table)
        span = within or self.span
        paths: dict[tuple[pl.DataType, ...], list[Path]] = {}
        for file in _within(self._files.of(table), span):
            types = tuple(file.schema.get(name, today) for name, today in schema.items())
            paths.setdefault(types, []).append(file.path)
        if not paths:
            return pl.LazyFrame(schema=schema)
        scans = []
        for types, of_types in paths.items():
            rows = pl.scan_parquet(
                of_types,
                schema=dict(zip(schema, types, strict=True)),
                missing_columns="insert",
                extra_columns="ignore",
                hive_partitioning=False,
                glob=False,
            )
            # Also where all is asked for: a file's rows may be of other times than its footer says.
            rows = rows.filter(pl.col(TABLES[table].time_column).is_between(*span, closed="left"))
            scans.append(
                rows.with_columns(
                    as_today(name, today)
                    for found, (name, today) in zip(types, schema.items(), strict=True)
                    if found != today
                ).with_columns(_numbers(schema))
            )
        return pl.concat(scans)

    def rows(self, table: str, columns: Sequence[str], within: Span | None = None) -> nw.LazyFrame[Any]:
        """Some columns of `scan`, and `TIME_US`, for sums on any engine: to be finished with `keep` and `gather`."""
        if self.engine is None:
            time = pl.col(TABLES[table].time_column).dt.epoch("us").alias(TIME_US)
            return nw.from_native(self.scan(table, within).select(*columns, time))
        files = self.files(table)
        if not files:
            schema = {name: polars_schema(table)[name] for name in columns} | {TIME_US: pl.Int64()}
            return self.engine.of(pl.DataFrame(schema=schema))
        span = within or self.span
        return self.engine.scan(Files(TABLES[table], [str(path) for path in files], *span, columns))

    def beside(self, rows: pl.DataFrame) -> nw.LazyFrame[Any]:
        """A small table, to be joined with `rows`."""
        return nw.from_native(rows.lazy()) if self.engine is None else self.engine.of(rows)

    def keep(self, rows: nw.LazyFrame[Any]) -> nw.LazyFrame[Any]:
        """What was made of `rows`, to be made once and used several times."""
        return self.beside(self.collect(rows.to_native())) if self.engine is None else self.engine.keep(rows)

    def gather(self, rows: nw.LazyFrame[Any]) -> pl.DataFrame:
        """What was made of `rows`. Raises as `collect`."""
        return self.collect(rows.to_native()) if self.engine is None else self.engine.collect(rows)

    def files(self, table: str) -> list[Path]:
        """The files of `table` with rows in the span, for engines of other libraries.

        Raises UsageError for one whose types are those of an older version: `scan` alone reads them as those of today.
        """
        schema = polars_schema(table)
        files = _within(self._files.of(table), self.span)
        for file in files:
            if any(file.schema.get(name, today) != today for name, today in schema.items()):
                raise UsageError(
                    f"{str(file.path)!r} has the types of schema version 1, which only `tracer report` without "
                    "--engine reads"
                )
        return [file.path for file in files]

    def has_rows(self) -> bool:
        """Whether any table has a row in the span. Raises UsageError for a file that cannot be read."""
        return any(self.has(table) and self.collect(self.scan(table).head(1)).height for table in TABLES)

    def ends_of_files(self, table: str) -> list[datetime]:
        """When the last row of each file of `table` is from."""
        return [file.span[1] for file in self._files.of(table) if file.span]

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What `rows`, made of scans of this recording, come to, by the streaming engine.

        Raises BrokenFilesError where files are broken below their footers; see `of_what_can_be_read`.
        """
        try:
            return rows.collect(engine="streaming")
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
            # Polars does not always say which.
            if self._files.leave_out_broken():
                if not any(self._files.of(table) for table in TABLES):
                    raise UsageError(self._files.why_none()) from error
                raise BrokenFilesError(self._files.notes[-1]) from error
            if isinstance(error, OSError):
                raise UsageError(f"cannot read the recording: {one_line(error)}") from error
            raise

    def recorded(self, node_name: str) -> list[Span]:
        """The times of which a node has rows of windows or ticks, without pauses: between runs, and within them.

        Raises UsageError for a file that cannot be read.
        """
        windows = [manifest.tick_ns * manifest.window_ticks for manifest in self.manifests]
        longest_gap = _PAUSE + timedelta(microseconds=max(windows, default=0) / 1000)
        recorded: list[Span] = []
        for first, last in self._seconds(node_name).iter_rows():
            end = min(last + timedelta(microseconds=1), self.span.end)
            if recorded and first - recorded[-1].end <= longest_gap:
                recorded[-1] = Span(recorded[-1].start, end)
            else:
                recorded.append(Span(first, end))
        return recorded

    def recorded_time(self) -> timedelta:
        """How much of the span was recorded: without pauses between runs and within them; of several nodes, the most.

        Raises UsageError for a file that cannot be read.
        """
        lengths = [sum((end - start for start, end in self.recorded(node)), timedelta()) for node in self.nodes]
        return max(lengths, default=self.span.end - self.span.start)

    def by_run(self) -> dict[str, "Recording"]:
        """What each run recorded, by the beginning of its id: all of it, whatever the span here is."""
        manifests = {manifest.run_id.hex[:ID_DIGITS]: manifest for manifest in self.manifests}
        parts = {}
        for run, files in self._files.by_run().items():
            with suppress(UsageError):
                span = _recorded_span(files)
                parts[run] = replace(
                    self,
                    manifests=[manifests[run]] if run in manifests else [],
                    nodes=_nodes(_files_within(files, span)),
                    span=span,
                    choices=[],
                    _files=files,
                    _by_second={},
                )
        return parts

    def shown(self, moment: datetime) -> datetime:
        """`moment` in the zone in which times are shown."""
        return moment.astimezone(self.zone)

    def _seconds(self, node_name: str) -> pl.DataFrame:
        """The first and the last row's time in each second in which the node has any."""
        key = (node_name, self.span)
        if key not in self._by_second:
            table = "windows" if self.has("windows") else "ticks"
            time = pl.col(TABLES[table].time_column)
            rows = self.scan(table).filter(pl.col("node_name") == node_name)
            seconds = rows.group_by(time.dt.truncate("1s").alias("second")).agg(first=time.min(), last=time.max())
            self._by_second[key] = self.collect(seconds).sort("second").select("first", "last")
        return self._by_second[key]

    def is_wanted(self, among: pl.DataFrame | None = None, *, required: bool = True) -> pl.Expr:
        """Whether a row's cgroup is one of those asked for, by its identity columns; true where none was.

        `among` are all that are there, if they are known: see `tracer.naming.Selector.among`. Raises UsageError if
        what was asked for is not among them, unless that is not `required`.
        """
        containers = self.containers
        if among is not None and self.is_about_some:
            there = who_is(among)
            containers = containers.among(there, required=required)
            if required:
                require_wanted(there, containers, self.namespace)
        wanted = is_taken(containers)
        return wanted if self.namespace is None else wanted & _is("namespace", self.namespace)

    @property
    def is_about_some(self) -> bool:
        """Whether some cgroups were asked for, and not all."""
        return bool(self.containers.patterns) or self.namespace is not None


def open_recording(
    directories: Sequence[Path],
    *,
    run: str | Sequence[str] = ALL,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    local: bool = False,
    container: str | Sequence[str] | None = None,
    namespace: str | None = None,
    identifiers: Collection[str] = (),
) -> Recording:
    """The recording that lies in `directories`, from `since` to before `until`.

    `run` says which runs of each directory, in one word for all or one each: see `tracer.analysis.runs.choose_runs`.
    Of `newest`, times that are not relative mean whatever was recorded then. Times as text are as `parse_moment` reads
    them; `local` ones are this machine's, and so are those that are shown. `container` is what `tracer.naming.Selector`
    takes; of `identifiers`, if any, the files alone are read. Nothing but footers and manifests is read, unless a time
    is given. Raises UsageError for a directory that holds no recording, or none that can be read, a run or an
    identifier that is not there, and a time in which nothing was recorded.
    """
    wanted = [run] * len(directories) if isinstance(run, str) else run
    found = [
        # All are all files, whatever the manifests are like.
        None if which == ALL else find_runs(directory)
        for directory, which in zip(directories, wanted, strict=True)
    ]
    is_within = all(given is None or is_relative(given) for given in (since, until))
    chosen = _choose(directories, found, wanted)
    files = _files_of(directories, chosen, identifiers)
    recorded = _recorded_span(files)
    first, before = (_moment(given, recorded, local=local) for given in (since, until))
    if NEWEST in wanted and not is_within:
        files = _files_of(
            directories, _choose(directories, found, [ALL if one == NEWEST else one for one in wanted]), identifiers
        )
        recorded = _recorded_span(files)
        then = {file.run for file in _files_within(files, Span(first or recorded.start, before or recorded.end))}
        if then:
            chosen = [None if runs is None else [one for one in runs if one.id in then] for runs in found]
            files = _files_of(directories, chosen, identifiers)
            recorded = _recorded_span(files)
        else:
            chosen = found
    span = Span(max(recorded.start, first or recorded.start), min(recorded.end, before or recorded.end))
    in_span = _files_within(files, span)
    recording = Recording(
        directories=tuple(directories),
        places=tuple(map(str, directories)),
        manifests=files.manifests({file.run for file in in_span} or files.runs),
        nodes=_nodes(in_span),
        span=span,
        zone=zone_at(recorded.start, local=local),
        containers=Selector([container] if isinstance(container, str) else container or ()),
        namespace=namespace,
        choices=[
            text if len(directories) == 1 else f"{str(directory)!r}: {text}"
            for directory, runs, those, which in zip(directories, found, chosen, wanted, strict=True)
            if which == NEWEST and runs and those and (text := choice_text(directory, runs, those))
        ],
        _files=files,
    )
    if span.start >= span.end or (span != recorded and not of_what_can_be_read(recording.has_rows)()):
        why = "nothing was recorded then"
        if first is not None and before is not None and first >= before:
            why = f"that time ends before it begins ({ends_text(recording.shown(first), recording.shown(before))})"
        whole = ends_text(*map(recording.shown, recorded))
        raise UsageError("; ".join([f"{why}: the recording is {whole}", *recording.choices]))
    return recording


def require_wanted(there: Sequence[Who], containers: Selector, namespace: str | None) -> None:
    """Raises UsageError if a pattern of `containers`, or the namespace, or both together mean nobody of those."""
    containers = containers.among(there)
    if namespace is None:
        return
    namespaces = sorted({who.namespace for who in there if who.namespace is not None})
    if namespace not in namespaces:
        known = f"there are {', '.join(map(shown, namespaces))}" if namespaces else "none is known"
        raise UsageError(f"nothing of namespace {shown(namespace)!r} was recorded then; {known}")
    if not any(who.namespace == namespace and containers.takes(who) for who in there):
        raise UsageError(f"none of {', '.join(map(shown, containers.patterns))} is in namespace {shown(namespace)!r}")


def of_what_can_be_read(question: Callable[_P, _T]) -> Callable[_P, _T]:
    """A question about recordings, asked anew where files turn out to be broken, without those."""

    @wraps(question)
    def ask(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        while True:
            # Each time there is one less.
            with suppress(BrokenFilesError):
                return question(*args, **kwargs)

    return ask


@cache
def polars_schema(table: str) -> pl.Schema:
    """The columns of `table` as Polars reads them."""
    return pl.Schema(TABLES[table].schema)


def _numbers(schema: pl.Schema) -> list[pl.Expr]:
    floats = [name for name, type_ in schema.items() if type_.is_float()]
    return [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in floats]


def _is(column: str, value: str) -> pl.Expr:
    return pl.col(column).eq_missing(pl.lit(value))


def _choose(
    directories: Sequence[Path], found: Sequence[list[FoundRun] | None], wanted: Sequence[str]
) -> list[list[FoundRun] | None]:
    """The runs that are meant, of each directory; None: all."""
    return [
        None if runs is None else choose_runs(directory, runs, which)
        for directory, runs, which in zip(directories, found, wanted, strict=True)
    ]


def _files_of(
    directories: Sequence[Path], chosen: Sequence[list[FoundRun] | None], identifiers: Collection[str]
) -> RecordedFiles:
    runs = [None if runs is None else {one.id for one in runs} for runs in chosen]
    return RecordedFiles(directories, runs, identifiers)


def _nodes(files: Sequence[RecordedFile]) -> list[str]:
    return sorted({file.node_name for file in files if file.node_name is not None})


def _files_within(files: RecordedFiles, span: Span) -> list[RecordedFile]:
    return [file for table in ("windows", "ticks") for file in _within(files.of(table), span)]


def _moment(given: datetime | str | None, recorded: Span, *, local: bool) -> datetime | None:
    """Raises UsageError for what is no time."""
    if isinstance(given, str):
        return parse_moment(given, *recorded, local=local)
    return None if given is None else given.astimezone(UTC)


def _within(files: list[RecordedFile], span: Span) -> list[RecordedFile]:
    return [file for file in files if file.span and file.span[0] < span.end and file.span[1] >= span.start]


def _recorded_span(files: RecordedFiles) -> Span:
    """When the rows of windows and ticks are from; of all tables, if these have none."""
    for tables in (("windows", "ticks"), tuple(TABLES)):
        spans = [file.span for table in tables for file in files.of(table) if file.span]
        if spans:
            # The last row's own time is part of it.
            end = max(last for _first, last in spans) + timedelta(microseconds=1)
            return Span(min(first for first, _last in spans), end)
    raise UsageError(files.why_none())
