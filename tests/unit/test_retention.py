# SPDX-License-Identifier: Apache-2.0
import errno
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_examples import DAY_NS, MIDNIGHT_NS, SECOND_NS, closed_file, files_below

from tracer.errors import OutputError
from tracer.store.closed_files import closed_files
from tracer.store.layout import file_path
from tracer.store.retention import OnFull, Retention

RUNS = (UUID(int=1), UUID(int=2**127))


FULL = OSError(errno.EDQUOT, "quota")
# A file says whose it is in about a KiB.
UNIT = 2048


def retention_of(output: Path, units: int | None, on_full: OnFull = "delete-oldest") -> Retention:
    return Retention(output, "n", None if units is None else units * UNIT, on_full, node_name="node-1")


def old_file(
    output: Path, start_ns: int, units: int, *, table: str = "windows", partition: str = "n", node_name: str = "node-1"
) -> Path:
    path = file_path(output, table, partition, start_ns, RUNS[0], 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(closed_file(units * UNIT, RUNS[0], node_name=node_name, identifier=partition))
    return path


@st.composite
def outputs(draw: st.DrawFn) -> list[tuple[str, int, int, int, int]]:
    """Files as (table, start in hours, run, sequence, size), each at another path."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["windows", "ticks", "health"]),
                st.integers(0, 60),
                st.sampled_from([0, 1]),
                st.integers(0, 3),
                st.integers(1, 50),
            ),
            unique_by=lambda file: file[:4],
            max_size=12,
        )
    )


@given(outputs(), st.integers(1, 50), st.integers(50, 200))
def test_exactly_the_oldest_files_that_must_go_are_removed(
    files: list[tuple[str, int, int, int, int]], incoming: int, keep_bytes: int
):
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory)
        by_age: list[tuple[tuple[int, int], Path, int]] = []
        for table, hour, run, sequence, size in files:
            path = file_path(output, table, "n", MIDNIGHT_NS + hour * 3600 * SECOND_NS, RUNS[run], sequence)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(closed_file(size * UNIT, RUNS[run]))
            by_age.append(((hour, sequence), path, size))
        retention = retention_of(output, keep_bytes)
        new = file_path(output, "windows", "n", MIDNIGHT_NS + 4 * DAY_NS, RUNS[0], 0)
        retention.write_closed_file(new, bytes(incoming * UNIT))

        kept = [(age, size) for age, path, size in by_age if path.exists()]
        removed = [(age, size) for age, path, size in by_age if not path.exists()]
        used = incoming + sum(size for _, size in kept)
        assert new.stat().st_size == incoming * UNIT
        assert used <= keep_bytes
        assert retention.removed.files == len(removed)
        assert all(old <= young for old, _ in removed for young, _ in kept)
        if removed:
            # Without the youngest of the removed there would not have been room.
            assert any(used + size > keep_bytes for age, size in removed if age == max(removed)[0])


def test_only_our_closed_files_of_this_identifier_are_counted_and_removed(tmp_path: Path):
    ours = old_file(tmp_path, MIDNIGHT_NS, 100)
    for name in ("notes.parquet", ours.name + ".inprogress", "windows-copy.parquet"):
        (ours.parent / name).write_bytes(bytes(100))
    old_file(tmp_path, MIDNIGHT_NS, 100, partition="other")
    old_file(tmp_path / "backup", MIDNIGHT_NS, 100)
    outside = tmp_path / "outside.parquet"
    outside.write_bytes(bytes(100))
    old_file(tmp_path, MIDNIGHT_NS + SECOND_NS, 1).unlink()
    file_path(tmp_path, "windows", "n", MIDNIGHT_NS + SECOND_NS, RUNS[0], 0).symlink_to(outside)
    file_path(tmp_path, "windows", "n", MIDNIGHT_NS + 2 * SECOND_NS, RUNS[0], 0).mkdir()
    manifest = tmp_path / "runs" / str(RUNS[0]) / "session.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(bytes(100))

    before = files_below(tmp_path)
    assert [file.size for file in closed_files(tmp_path, "n")] == [100 * UNIT]
    new = file_path(tmp_path, "ticks", "n", MIDNIGHT_NS + DAY_NS, RUNS[0], 0)
    retention_of(tmp_path, 50).write_closed_file(new, bytes(50 * UNIT))
    after = {*before, str(new.relative_to(tmp_path))} - {str(ours.relative_to(tmp_path))}
    assert set(files_below(tmp_path)) == after


@pytest.mark.parametrize(
    "whose",
    [
        {"node_name": "node-2"},
        # As on a file system that does not tell upper from lower case.
        {"identifier": "N"},
        {"run_id": UUID(int=7 << 96)},
    ],
    ids=["of another node", "of another identifier", "of another run than its name says"],
)
def test_what_others_wrote_into_the_same_directory_is_neither_counted_nor_removed(
    tmp_path: Path, whose: dict[str, Any]
):
    theirs = [old_file(tmp_path, MIDNIGHT_NS + second * SECOND_NS, 100) for second in range(3)]
    for path in theirs:
        path.write_bytes(closed_file(100 * UNIT, **{"run_id": RUNS[0], **whose}))
    ours = [file_path(tmp_path, "ticks", "n", MIDNIGHT_NS + second * SECOND_NS, RUNS[1], second) for second in range(3)]
    retention = retention_of(tmp_path, 200)
    for path in ours:
        retention.write_closed_file(path, closed_file(100 * UNIT, RUNS[1]))
    assert all(path.exists() for path in theirs)
    assert [path.exists() for path in ours] == [False, True, True]
    assert retention.removed.files == 1


def test_a_file_that_says_nothing_is_nobodys_to_remove(tmp_path: Path):
    ours, theirs = (old_file(tmp_path, MIDNIGHT_NS + second * SECOND_NS, 100) for second in range(2))
    for damaged in (b"", b"PAR1", ours.read_bytes()[:-100], bytes(100 * UNIT)):
        theirs.write_bytes(damaged)
        retention = retention_of(tmp_path, None)
        assert not ours.exists() or retention.free_space(FULL, 1000 * UNIT)
        assert not retention.free_space(FULL, 1)
        assert theirs.exists()


def test_partitions_that_became_empty_go_too(tmp_path: Path):
    gone = old_file(tmp_path, MIDNIGHT_NS, 100)
    shared = old_file(tmp_path, MIDNIGHT_NS + DAY_NS, 100)
    other = old_file(tmp_path, MIDNIGHT_NS + DAY_NS, 100, partition="other")
    new = file_path(tmp_path, "ticks", "n", MIDNIGHT_NS + 2 * DAY_NS, RUNS[0], 0)
    retention_of(tmp_path, 100).write_closed_file(new, bytes(100 * UNIT))
    assert not gone.parent.parent.exists()
    assert not shared.parent.exists()
    assert other.exists()


def test_stop_writes_up_to_the_bound_and_removes_nothing(tmp_path: Path):
    retention = retention_of(tmp_path, 300, "stop")
    for second in range(3):
        path = file_path(tmp_path, "windows", "n", MIDNIGHT_NS + second * SECOND_NS, RUNS[0], second)
        retention.write_closed_file(path, closed_file(100 * UNIT, RUNS[0]))
    before = files_below(tmp_path)
    assert len(before) == 3
    with pytest.raises(OutputError, match="--keep") as failure:
        retention.write_closed_file(file_path(tmp_path, "ticks", "n", MIDNIGHT_NS, RUNS[0], 0), b"x")
    assert failure.value.exit_code == 4
    assert "\n" not in str(failure.value)
    assert files_below(tmp_path) == before
    assert retention.removed.files == 0


def test_a_file_larger_than_the_bound_costs_no_older_file(tmp_path: Path):
    old = old_file(tmp_path, MIDNIGHT_NS, 100)
    retention = retention_of(tmp_path, 150)
    with pytest.raises(OutputError, match="raise --keep"):
        retention.write_closed_file(file_path(tmp_path, "ticks", "n", MIDNIGHT_NS, RUNS[0], 0), bytes(151 * UNIT))
    assert files_below(tmp_path) == [str(old.relative_to(tmp_path))]


@pytest.mark.root
def test_a_file_that_cannot_be_removed_is_passed_over(tmp_path: Path):
    stuck = old_file(tmp_path, MIDNIGHT_NS, 100)
    old_file(tmp_path, MIDNIGHT_NS + SECOND_NS, 100, table="ticks")
    retention = retention_of(tmp_path, 200)
    new = file_path(tmp_path, "health", "n", MIDNIGHT_NS, RUNS[0], 0)
    # A mount point is busy, even for root.
    subprocess.run(["mount", "--bind", stuck, stuck], check=True)
    try:
        retention.write_closed_file(new, closed_file(100 * UNIT, RUNS[0]))
        assert retention.removed.files == 1
        with pytest.raises(OutputError, match="cannot remove"):
            retention.write_closed_file(new.with_name("more"), bytes(200 * UNIT))
    finally:
        subprocess.run(["umount", stuck], check=True)
    assert files_below(tmp_path) == [str(stuck.relative_to(tmp_path))]


def test_without_a_bound_nothing_is_removed(tmp_path: Path):
    old_file(tmp_path, MIDNIGHT_NS, 100)
    new = file_path(tmp_path, "ticks", "n", MIDNIGHT_NS, RUNS[0], 0)
    retention_of(tmp_path, None).write_closed_file(new, bytes(10_000))
    assert len(files_below(tmp_path)) == 2


def test_a_manifest_does_not_count(tmp_path: Path):
    retention_of(tmp_path, 10, "stop").write(tmp_path / "runs" / "session.json", bytes(100))
    assert files_below(tmp_path) == ["runs/session.json"]
