# SPDX-License-Identifier: Apache-2.0
"""Resources where all controllers are in the version 2 tree: what programs do against what the columns say. Run in
such a guest.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, Cgroup

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.readers.cgroup_keys import AVERAGE_COLUMNS, FILES
from tracer.readers.io_devices import IoDevicesReader
from tracer.readers.protocol import Cgroup as ReadCgroup
from tracer.readers.resources import ResourcesReader

pytestmark = [pytest.mark.root, pytest.mark.core]

MIB = 1 << 20
_FILLS_MEMORY = """
import mmap, sys, time
anonymous = mmap.mmap(-1, 300 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
anonymous.write(b"x" * (300 << 20))
with open(sys.argv[1], "wb") as file:
    for _ in range(200):
        file.write(b"y" * (1 << 20))
print("full", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def container(own_cgroup: Path) -> Iterator[Cgroup]:
    """A cgroup with the controllers on."""
    for directory in (find_cgroup2_mount(), own_cgroup):
        control = directory / "cgroup.subtree_control"
        if missing := {"cpu", "memory", "io", "pids"} - set(control.read_text().split()):
            control.write_text(" ".join(f"+{name}" for name in missing))
    cgroup = Cgroup(own_cgroup / f"docker-{'c' * 64}.scope")
    yield cgroup
    cgroup.stop()


@pytest.fixture
def read() -> Iterator[Callable[[Cgroup], dict[str, int | float]]]:
    reader = ResourcesReader(find_cgroup2_mount())

    def one(cgroup: Cgroup) -> dict[str, int | float]:
        # As if it ended, so that settings are read as well.
        reader.read_ending([as_read(cgroup)])
        (row,) = reader.take_looks().rows["resources"].to_dicts()
        return row

    yield one
    reader.close()


def as_read(cgroup: Cgroup) -> ReadCgroup:
    path = f"/{cgroup.path.relative_to(find_cgroup2_mount())}"
    return ReadCgroup(cgroup.id, path, "container", "c" * 64, False)


def cat(cgroup: Path) -> dict[str, float]:
    """Every number of every file that the reader has a column for, taken apart in another way than the reader's."""
    found: dict[str, float] = {}
    for file in FILES:
        path = cgroup / file.name
        if not path.exists():
            continue
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        pairs: list[tuple[str, str]] = []
        for line in lines:
            words = line.split()
            if file.format == "words":
                pairs += [(str(place), word) for place, word in enumerate(words)]
            elif file.format == "flat":
                pairs.append((words[0], words[1]))
            else:
                prefix = f"{words[0]}." if file.format == "pressure" else ""
                pairs += [(prefix + key, value) for key, _, value in (word.partition("=") for word in words[1:])]
        for key, value in pairs:
            if key in file.columns and value != "max":
                column = file.columns[key]
                found[column] = found.get(column, 0) + float(value)
    return found


def test_memory_that_a_program_takes(
    container: Cgroup, read: Callable[[Cgroup], dict[str, int | float]], tmp_path: Path
) -> None:
    program = tmp_path / "fills_memory.py"
    program.write_text(_FILLS_MEMORY)
    ready = tmp_path / "ready"
    container.start(f'exec "{sys.executable}" "{program}" "{tmp_path}/file" > "{ready}"')
    while not ready.exists() or "full" not in ready.read_text():
        time.sleep(0.1)
    # The kernel sums its per-CPU counts each two seconds.
    time.sleep(3)
    before, row, after = cat(container.path), read(container), cat(container.path)
    assert row["memory_anon_bytes"] >= 300 * MIB
    # Some pages of each CPU are not in the sum yet.
    assert row["memory_file_bytes"] >= 199 * MIB
    assert row["memory_current_bytes"] >= 500 * MIB
    assert row["memory_working_set_bytes"] == row["memory_current_bytes"] - row["memory_inactive_file_bytes"]
    # Since v5.19.
    if (container.path / "memory.peak").exists():
        assert row["memory_peak_bytes"] >= row["memory_current_bytes"]
    assert row["pids_current"] == 1
    for name, value in before.items():
        if name not in AVERAGE_COLUMNS:
            low, high = sorted((value, after[name]))
            assert low <= row[name] <= high, name
    assert len(before) > 80


def test_throttling(container: Cgroup, read: Callable[[Cgroup], dict[str, int | float]]) -> None:
    (container.path / "cpu.max").write_text("20000 100000")
    begin = read(container)
    container.start(SPIN)
    time.sleep(3)
    end = read(container)
    assert (end["cpu_quota_usec"], end["cpu_period_usec"]) == (20000, 100000)
    assert end["cpu_nr_throttled"] - begin["cpu_nr_throttled"] >= 10
    assert end["cpu_throttled_usec"] - begin["cpu_throttled_usec"] >= 1_000_000
    assert 300_000 <= end["cpu_usage_usec"] - begin["cpu_usage_usec"] <= 1_200_000
    # A throttled task waits for a CPU.
    assert end["cpu_pressure_some_total_usec"] - begin["cpu_pressure_some_total_usec"] >= 1_000_000


def test_out_of_memory(container: Cgroup, read: Callable[[Cgroup], dict[str, int | float]]) -> None:
    (container.path / "memory.max").write_text(str(64 * MIB))
    if (container.path / "memory.swap.max").exists():
        (container.path / "memory.swap.max").write_text("0")
    process = container.start(f'exec "{sys.executable}" -c "bytearray(200 << 20)"')
    process.wait()
    row = read(container)
    assert row["memory_max_bytes"] == 64 * MIB
    assert row["memory_events_max"] > 0
    assert row["memory_events_oom"] >= 1
    assert row["memory_events_oom_kill"] == row["memory_events_local_oom_kill"] == 1
    assert row.get("memory_peak_bytes", 64 * MIB) == pytest.approx(64 * MIB, rel=0.1)


def test_memory_pressure(container: Cgroup, read: Callable[[Cgroup], dict[str, int | float]]) -> None:
    (container.path / "memory.high").write_text(str(48 * MIB))
    container.start(f'exec "{sys.executable}" -c "bytearray(96 << 20)"')
    deadline = time.monotonic() + 60
    while (row := read(container))["memory_pressure_some_total_usec"] < 100_000 and time.monotonic() < deadline:
        time.sleep(0.5)
    assert row["memory_pressure_some_total_usec"] >= 100_000
    assert row["memory_high_bytes"] == 48 * MIB
    assert row["memory_events_high"] > 0


def test_io_by_device_and_in_all(
    container: Cgroup, read: Callable[[Cgroup], dict[str, int | float]], tmp_path: Path
) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(32 * MIB)
    subprocess.run(["modprobe", "loop"], check=True)
    device = subprocess.run(
        ["losetup", "--find", "--show", image], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        number = Path(f"/sys/block/{Path(device).name}/dev").read_text().strip()
        (container.path / "io.max").write_text(f"{number} wbps={512 * MIB} wiops=max")
        container.start(f"exec dd if=/dev/zero of={device} bs=1M count=16 oflag=direct").wait()
        row = read(container)
        assert row["io_wbytes"] >= 16 * MIB
        rows = IoDevicesReader(find_cgroup2_mount()).read([as_read(container)]).rows["io"]
        (of_device,) = rows.filter(pl.col("device") == number).to_dicts()
        assert of_device["io_wbytes"] == 16 * MIB
        assert (of_device["io_max_wbps"], of_device["io_max_wiops"]) == (512 * MIB, None)
        assert rows["io_wbytes"].sum() >= row["io_wbytes"]
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
