# SPDX-License-Identifier: Apache-2.0
"""The rows of the last minutes, compressed, within a bound of time and one of bytes.

Rows are gathered for some seconds, sorted so that what is alike lies together, and compressed: a *segment*. The oldest
segment goes when it is older than what is to be kept, or when there is no room for the newest. Whoever writes takes the
oldest out: so a row is in one recording, or was let go.
"""

from collections import Counter, deque
from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, TypeVar

import pyarrow as pa

from tracer.store.parquet import combine, conform
from tracer.store.schemas import TABLES, Table

SEGMENT_NS: Final = 5_000_000_000
# Before they are compressed: on large nodes a segment is shorter.
_MOST_RAW_BYTES: Final = 16 << 20
_RECENT_CHUNKS: Final = 32
_OPTIONS: Final = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=1))

Mark = TypeVar("Mark")


class Segment(NamedTuple, Generic[Mark]):
    """Rows of all tables that came between two times (CLOCK_MONOTONIC); `before`: what was counted at the first."""

    begun_ns: int
    ended_ns: int
    tables: dict[str, tuple[pa.Buffer, int]]
    size: int
    before: Mark

    def rows(self) -> Iterator[tuple[Table, pa.Table]]:
        """Of each table that has some."""
        for name, (content, _rows) in self.tables.items():
            with pa.ipc.open_stream(content) as stream:
                yield TABLES[name], stream.read_all()

    @property
    def counts(self) -> Counter[str]:
        """Rows by table."""
        return Counter({name: rows for name, (_content, rows) in self.tables.items()})


class Memory(Generic[Mark]):
    """One thread calls the methods; any may read what is counted."""

    def __init__(self, keep_ns: int, most_bytes: int, mark: Mark, *, segment_ns: int = SEGMENT_NS) -> None:
        """`mark`: what is counted now, before the first row."""
        self.let_go: Counter[str] = Counter()
        """Rows that went without being written, by table."""
        self.is_short = False
        """Whether some of them were younger than what is to be kept: there was no room for them."""
        self._keep_ns = keep_ns
        self._most_bytes = most_bytes
        self._segment_ns = segment_ns
        self._segments: deque[Segment[Mark]] = deque()
        self._size = 0
        self._raw: dict[str, list[pa.Table]] = {}
        self._raw_bytes = 0
        self._begun_ns: int | None = None
        self._mark = mark

    @property
    def size(self) -> int:
        """Bytes of all rows."""
        return self._size + self._raw_bytes

    def __bool__(self) -> bool:
        """Whether there are rows."""
        return bool(self._segments) or bool(self._raw)

    def span_ns(self, now_ns: int) -> int:
        """How far back it goes."""
        begun_ns = self._segments[0].begun_ns if self._segments else self._begun_ns
        return 0 if begun_ns is None else max(0, now_ns - begun_ns)

    def put(self, table: Table, rows: pa.Table, now_ns: int) -> None:
        """Takes rows. Raises ValueError if they do not have the table's schema."""
        conformed = conform(table, rows)
        chunks = self._raw.setdefault(table.name, [])
        chunks.append(conformed)
        self._raw_bytes += conformed.nbytes
        if self._begun_ns is None:
            self._begun_ns = now_ns
        if len(chunks) >= _RECENT_CHUNKS:
            # Each has dictionaries of its own, which can be larger than the rows.
            before = sum(chunk.nbytes for chunk in chunks)
            chunks[:] = [combine(chunks)]
            self._raw_bytes += chunks[0].nbytes - before

    def is_due(self, now_ns: int) -> bool:
        """Whether what was gathered is enough for a segment."""
        return self._begun_ns is not None and (
            now_ns - self._begun_ns >= self._segment_ns or self._raw_bytes >= min(_MOST_RAW_BYTES, self._most_bytes)
        )

    def seal(self, now_ns: int, mark: Mark) -> None:
        """What was gathered becomes a segment, if there is any. `mark`: what is counted now."""
        if self._begun_ns is None:
            return
        tables = {name: (_compressed(name, chunks), _height(chunks)) for name, chunks in self._raw.items()}
        size = sum(content.size for content, _rows in tables.values())
        self._segments.append(Segment(self._begun_ns, now_ns, tables, size, self._mark))
        self._size += size
        self._raw, self._raw_bytes, self._begun_ns, self._mark = {}, 0, None, mark
        # Sorting and compressing take several times a segment's size, which the allocator would keep until the next.
        pa.default_memory_pool().release_unused()

    def counted_before(self) -> Mark:
        """What was counted before the first row that is here."""
        return self._segments[0].before if self._segments else self._mark

    def skip(self, mark: Mark) -> None:
        """What was counted until now came by another way: the next rows are what comes after `mark`."""
        self._mark = mark

    def trim(self, now_ns: int, *, by_age: bool = True) -> None:
        """Lets go what is too old, and beyond the bound of bytes what is oldest; the newest stays, however large."""
        while self._segments:
            oldest = self._segments[0]
            is_old = now_ns - oldest.ended_ns > self._keep_ns
            if not (is_old and by_age) and not (self._size > self._most_bytes and len(self._segments) > 1):
                return
            self.is_short |= not is_old
            self._let_oldest_go()

    def take(self) -> Segment[Mark] | None:
        """The oldest segment, which is not here any more; None where there is none."""
        if not self._segments:
            return None
        segment = self._segments.popleft()
        self._size -= segment.size
        return segment

    def let_all_go(self) -> None:
        """At the end: what nobody asked for."""
        while self._segments:
            self._let_oldest_go()

    def _let_oldest_go(self) -> None:
        segment = self._segments.popleft()
        self._size -= segment.size
        # Anew, for whoever reads it meanwhile.
        self.let_go = self.let_go + segment.counts


def _compressed(name: str, chunks: list[pa.Table]) -> pa.Buffer:
    table = TABLES[name]
    rows = combine(chunks)
    order = [column for column in ("cgroup_id", "cpu", table.time_column) if column in rows.column_names]
    rows = rows.sort_by([(column, "ascending") for column in order])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema, options=_OPTIONS) as stream:
        stream.write_table(rows)
    return sink.getvalue()


def _height(chunks: list[pa.Table]) -> int:
    return sum(chunk.num_rows for chunk in chunks)
