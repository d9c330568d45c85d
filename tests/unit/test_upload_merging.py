# SPDX-License-Identifier: Apache-2.0
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from store_examples import SECOND_NS, example_rows, new_store
from upload_examples import TEN, TEN_NS

from tracer.store.closed_files import closed_files, read_facts, rows_by_hour
from tracer.store.schemas import LLC, Table
from tracer.store.upload import merging
from tracer.store.upload.merging import DamagedFileError, Source, merge
from tracer.store.upload.sequences import Sequences

# Of few columns.
TABLE = LLC


def files_of(output: Path, files: Sequence[Sequence[int]], table: Table = TABLE) -> list[Source]:
    """Closed files with rows of these seconds after 10:00, as sources."""
    store = new_store(output, identifier="n", run_id=uuid4())
    for salt, seconds in enumerate(files):
        store.append(table, example_rows(table, [TEN_NS + second * SECOND_NS for second in seconds], salt))
        store.close()
    sources = []
    for file in closed_files(output, "n"):
        path = PurePath(file.name.relative_path)
        span = read_facts(output, path).span
        assert span is not None
        sources.append(Source(path, span))
    return sources


def merged_tables(output: Path, sources: Sequence[Source], hour: int = TEN, **bounds: int) -> list[pa.Table]:
    tables = []
    for merged in merge(output, TABLE, sources, hour, new_file=io.BytesIO, **bounds):
        content = merged.file.read()
        assert len(content) == merged.size
        table = pq.read_table(io.BytesIO(content))
        assert table.num_rows == merged.rows
        tables.append(table)
    return tables


@settings(max_examples=15)
@given(
    st.lists(st.lists(st.integers(-100, 3_700), min_size=1, max_size=60), min_size=1, max_size=6),
    st.sampled_from([4, 16, 10_000]),
    st.sampled_from([2, 5, 10_000]),
)
@example([[0] * 50, [0] * 50], 4, 2)
def test_all_rows_of_the_hour_in_order_however_files_overlap(files: list[list[int]], group: int, read: int):
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_GROUP_ROWS", group)
        patch.setattr(merging, "_MOST_WAITING_ROWS", 3 * group)
        patch.setattr(merging, "_READ_ROWS", read)
        tables = merged_tables(Path(directory), files_of(Path(directory), files))
        seconds = []
        for table in tables:
            times = table[TABLE.time_column].cast(pa.int64()).to_pylist()
            assert times == sorted(times)
            seconds += [(time - TEN_NS // 1_000) // 10**6 for time in times]
        assert sorted(seconds) == sorted(second for file in files for second in file if 0 <= second < 3_600)
        # Only where files overlap all along there are several.
        assert len(tables) <= 1 or group < 10_000


def test_a_file_that_would_be_too_large_is_several_and_all_say_what_closed_files_say(tmp_path: Path):
    sources = files_of(tmp_path, [range(first, first + 60) for first in range(0, 600, 60)])
    whole = merged_tables(tmp_path, sources)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(merging, "_GROUP_ROWS", 60)
        parts = merged_tables(tmp_path, sources, largest_bytes=1)
    assert len(whole) == 1
    assert len(parts) > 3
    assert pa.concat_tables(parts) == whole[0]
    closed = pq.read_schema(tmp_path / sources[0].path)
    for table in (*whole, *parts):
        assert table.schema.equals(closed, check_metadata=True)


def test_the_same_files_give_the_same_bytes(tmp_path: Path):
    sources = files_of(tmp_path, [[1, 5], [2, 2], [2, 9]])
    first, second = (
        [one.sha256 for one in merge(tmp_path, TABLE, order, TEN, new_file=io.BytesIO)]
        for order in (sources, sources[::-1])
    )
    assert first == second


def test_what_is_no_closed_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sources = files_of(tmp_path, [[1, 5], [2, 9]])
    path = tmp_path / sources[1].path
    content = path.read_bytes()
    path.write_bytes(content[:50] + bytes(200) + content[250:])
    with pytest.raises(DamagedFileError) as refused:
        merged_tables(tmp_path, sources)
    assert refused.value.path == sources[1].path
    # Rows that are not in order, as no tracer writes them.
    pq.write_table(pq.read_table(path.with_name(sources[0].path.name)).take([1, 0]), path)
    monkeypatch.setattr(merging, "_READ_ROWS", 1)
    with pytest.raises(DamagedFileError, match="not in the order of their times"):
        merged_tables(tmp_path, [sources[1]._replace(span=sources[0].span._replace(last_us=sources[1].span.last_us))])


def test_rows_are_counted_by_their_hour(tmp_path: Path):
    (source,) = files_of(tmp_path, [[-1, 0, 1, 3_599, 3_600]])
    assert rows_by_hour(tmp_path, source.path) == {TEN - 1: 1, TEN: 3, TEN + 1: 1}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 5))))
def test_sequence_numbers_are_as_in_a_set(ranges: list[tuple[int, int]]):
    numbers, expected = Sequences(), set()
    for first, more in ranges:
        numbers.add(first, first + more)
        expected.update(range(first, first + more + 1))
    for again in (numbers, Sequences.parse(str(numbers)), Sequences.of(sorted(expected, key=hash))):
        assert {number for number in range(80) if number in again} == expected
        assert str(again) == str(numbers)
        # With a gap between each two.
        assert all(last + 1 < first for (_, last), (first, _) in zip(again.ranges, again.ranges[1:], strict=False))
        assert bool(again) == bool(expected)


def test_a_hostile_range_takes_no_memory_and_nonsense_is_refused():
    assert 10**18 in Sequences.parse("0-9999999999999999999")
    for text in ("1-", "a", "-1", "1,,2", "2-1", "1-2-3", "１"):
        with pytest.raises(ValueError, match="not a range"):
            Sequences.parse(text)
