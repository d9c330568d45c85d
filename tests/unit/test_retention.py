# SPDX-License-Identifier: Apache-2.0
import subprocess
import tempfile
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_examples import DAY_NS, MIDNIGHT_NS, SECOND_NS, files_below

from tracer.errors import OutputError
from tracer.store.layout import file_path
from tracer.store.retention import Retention, closed_files

RUNS = (UUID(int=1), UUID(int=2**127))


def old_file(output: Path, start_ns: int, size: int, *, table: str = "windows", partition: str = "n") -> Path:
    path = file_path(output, table, partition, start_ns, RUNS[0], 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
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
            path.write_bytes(bytes(size))
            by_age.append(((hour, sequence), path, size))
        retention = Retention(output, "n", keep_bytes, "delete-oldest")
        new = file_path(output, "windows", "n", MIDNIGHT_NS + 4 * DAY_NS, RUNS[0], 0)
        retention.write_closed_file(new, bytes(incoming))

        kept = [(age, size) for age, path, size in by_age if path.exists()]
        removed = [(age, size) for age, path, size in by_age if not path.exists()]
        used = incoming + sum(size for _, size in kept)
        assert new.stat().st_size == incoming
        assert used <= keep_bytes
        assert retention.files_removed == len(removed)
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
    assert [file.size for file in closed_files(tmp_path, "n")] == [100]
    new = file_path(tmp_path, "ticks", "n", MIDNIGHT_NS + DAY_NS, RUNS[0], 0)
    Retention(tmp_path, "n", 50, "delete-oldest").write_closed_file(new, bytes(50))
    after = {*before, str(new.relative_to(tmp_path))} - {str(ours.relative_to(tmp_path))}
    assert set(files_below(tmp_path)) == after


def test_partitions_that_became_empty_go_too(tmp_path: Path):
    gone = old_file(tmp_path, MIDNIGHT_NS, 100)
    shared = old_file(tmp_path, MIDNIGHT_NS + DAY_NS, 100)
    other = old_file(tmp_path, MIDNIGHT_NS + DAY_NS, 100, partition="other")
    new = file_path(tmp_path, "ticks", "n", MIDNIGHT_NS + 2 * DAY_NS, RUNS[0], 0)
    Retention(tmp_path, "n", 100, "delete-oldest").write_closed_file(new, bytes(100))
    assert not gone.parent.parent.exists()
    assert not shared.parent.exists()
    assert other.exists()


def test_stop_writes_up_to_the_bound_and_removes_nothing(tmp_path: Path):
    retention = Retention(tmp_path, "n", 300, "stop")
    for second in range(3):
        path = file_path(tmp_path, "windows", "n", MIDNIGHT_NS + second * SECOND_NS, RUNS[0], second)
        retention.write_closed_file(path, bytes(100))
    before = files_below(tmp_path)
    assert len(before) == 3
    with pytest.raises(OutputError, match="--keep") as failure:
        retention.write_closed_file(file_path(tmp_path, "ticks", "n", MIDNIGHT_NS, RUNS[0], 0), b"x")
    assert failure.value.exit_code == 4
    assert "\n" not in str(failure.value)
    assert files_below(tmp_path) == before
    assert retention.files_removed == 0


def test_a_file_larger_than_the_bound_costs_no_older_file(tmp_path: Path):
    old = old_file(tmp_path, MIDNIGHT_NS, 100)
    retention = Retention(tmp_path, "n", 150, "delete-oldest")
    with pytest.raises(OutputError, match="raise --keep"):
        retention.write_closed_file(file_path(tmp_path, "ticks", "n", MIDNIGHT_NS, RUNS[0], 0), bytes(151))
    assert files_below(tmp_path) == [str(old.relative_to(tmp_path))]


@pytest.mark.root
def test_a_file_that_cannot_be_removed_is_passed_over(tmp_path: Path):
    stuck = old_file(tmp_path, MIDNIGHT_NS, 100)
    old_file(tmp_path, MIDNIGHT_NS + SECOND_NS, 100, table="ticks")
    retention = Retention(tmp_path, "n", 200, "delete-oldest")
    new = file_path(tmp_path, "health", "n", MIDNIGHT_NS, RUNS[0], 0)
    # A mount point is busy, even for root.
    subprocess.run(["mount", "--bind", stuck, stuck], check=True)
    try:
        retention.write_closed_file(new, bytes(100))
        assert retention.files_removed == 1
        with pytest.raises(OutputError, match="cannot remove"):
            retention.write_closed_file(new.with_name("more"), bytes(200))
    finally:
        subprocess.run(["umount", stuck], check=True)
    assert files_below(tmp_path) == [str(stuck.relative_to(tmp_path))]


def test_without_a_bound_nothing_is_removed(tmp_path: Path):
    old_file(tmp_path, MIDNIGHT_NS, 100)
    new = file_path(tmp_path, "ticks", "n", MIDNIGHT_NS, RUNS[0], 0)
    Retention(tmp_path, "n", None, "delete-oldest").write_closed_file(new, bytes(10_000))
    assert len(files_below(tmp_path)) == 2


def test_a_manifest_does_not_count(tmp_path: Path):
    Retention(tmp_path, "n", 10, "stop").write(tmp_path / "runs" / "session.json", bytes(100))
    assert files_below(tmp_path) == ["runs/session.json"]
