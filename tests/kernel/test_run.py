# SPDX-License-Identifier: Apache-2.0
"""`tracer run` on the live node: loss counted exactly, files for every reader, good and bad ends."""

import ctypes
import platform
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import msgspec
import pandas as pd
import polars as pl
import pyarrow.dataset
import pytest
from live_node import SPIN, Cgroup, Tracer

from tracer.analysis.recording import open_recording
from tracer.analysis.run_list import list_runs
from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.kernel.cpus import format_cpu_list, online_cpus, parse_cpu_list
from tracer.pipeline.node import NodeTopology
from tracer.store.manifest import read_manifest
from tracer.store.schemas import TABLES

pytestmark = pytest.mark.root

LIBC = ctypes.CDLL(None, use_errno=True)
SWITCHING = "while :; do sleep 0; done"


def closed_files(output: Path) -> list[Path]:
    return sorted(output.rglob("*.parquet"))


def bpf_programs() -> Iterator[int]:
    """Ids of all programs in the kernel (BPF_PROG_GET_NEXT_ID: start_id in, next_id out)."""
    number = 0
    while True:
        attribute = ctypes.create_string_buffer(struct.pack("II", number, 0), 128)
        if LIBC.syscall(321 if platform.machine() == "x86_64" else 280, 11, attribute, 128) < 0:
            return
        number = struct.unpack_from("II", attribute)[1]
        yield number


@pytest.mark.core
def test_lost_records_are_counted_exactly(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--duration", "5s", "--ring-size", "4KiB")
    tracer.wait_until_tracing()
    new_container().start(SWITCHING)
    time.sleep(0.5)
    # A ring of 4 KiB holds 56 records: a reader that stands still for a second must lose some.
    tracer.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    tracer.process.send_signal(signal.SIGCONT)
    result = tracer.result()

    totals = result.manifest.totals
    causes = [cause for of_cpu in totals.lost_by_cpu.values() for cause in of_cpu]
    assert totals.records_lost > 100
    # `unexplained` would be what only the sequence numbers miss; `ring_full` is what the kernel side counted.
    assert set(causes) == {"ring_full"}
    assert totals.records_lost == sum(of_cpu["ring_full"] for of_cpu in totals.lost_by_cpu.values())
    assert result.table("health")["lost_ring_full"].sum() == totals.records_lost
    assert f"{totals.records_lost:,} LOST (ring_full {totals.records_lost:,})" in result.said


@pytest.mark.core
def test_every_reader_opens_the_files(start_tracer: Callable[..., Tracer]) -> None:
    result = start_tracer(
        "--duration", "2s", "--ticks", "--io", "--processes", "1s", "--regions", "--identifier", "node/1 =x",
        "--node-name", "node-1.example", "-q",
    ).result()  # fmt: skip
    assert result.said == ""
    assert not list(result.output.rglob("*.inprogress"))
    sources = {"io": find_cgroup2_mount() / "io.stat", "llc": Path("/sys/fs/resctrl/info")}
    # Nobody sends anything here.
    without_rows = {"external", *(table for table, source in sources.items() if not source.exists())}
    recording = open_recording([result.output])
    assert set(result.manifest.totals.rows) == set(TABLES) - without_rows
    for table in TABLES.values():
        if table.name in without_rows:
            continue
        directory = result.output / table.name
        rows = result.table(table.name).height
        assert rows == result.manifest.totals.rows[table.name] > 0
        expected = [*table.schema.names, "dt", "identifier"]

        dataset = pyarrow.dataset.dataset(directory, partitioning="hive")
        assert dataset.schema.names == expected
        for field in table.schema:
            assert dataset.schema.field(field.name).type == field.type
        assert dataset.count_rows() == rows

        lazily = pl.scan_parquet(directory, hive_partitioning=True)
        assert lazily.collect_schema().names() == expected
        assert lazily.collect().height == rows

        relation = duckdb.sql(f"select * from read_parquet('{directory}/**/*.parquet', hive_partitioning=true)")
        assert sorted(relation.columns) == sorted(expected)
        assert relation.aggregate("count(*)").fetchall() == [(rows,)]
        assert relation.aggregate("any_value(identifier)").fetchall() == [("node/1 =x",)]
        assert relation.aggregate("node_name", "node_name").fetchall() == [("node-1.example",)]

        frame = pd.read_parquet(directory)
        assert sorted(frame.columns) == sorted(expected)
        assert len(frame) == rows

        recording.collect(recording.scan(table.name))
    assert recording.notes == []
    topology = msgspec.convert(result.manifest.topology, type=NodeTopology)
    assert topology.online == format_cpu_list(result.manifest.host.online_cpus)
    assert topology.cgroup is not None
    assert topology.cgroup.mount_point == str(find_cgroup2_mount())
    assert result.manifest.topology_changes == []
    metadata = pyarrow.dataset.dataset(result.output / "windows").schema.metadata
    assert metadata[b"tracer.run_id"] == str(result.manifest.run_id).encode()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.core), signal.SIGHUP])
def test_a_signal_ends_the_run_well(start_tracer: Callable[..., Tracer], number: signal.Signals) -> None:
    tracer = start_tracer()
    tracer.wait_until_tracing()
    time.sleep(1.03)
    sent_ns = time.time_ns()
    tracer.process.send_signal(number)
    result = tracer.result()
    assert result.manifest.status == "finished"
    assert result.manifest.exit_reason == "stopped"
    assert "; Ctrl-C to stop\n" in result.said
    assert result.said.endswith(f"\ntracer: next: tracer report {result.output}\n")
    # Not on a terminal: nothing of the live line.
    assert "\r" not in result.said
    assert result.manifest.end is not None
    # Everything up to the signal is there, to the tick and what the two clocks differ by.
    assert result.manifest.end.utc_ns > sent_ns - 5_000_000
    windows = result.table("windows")
    last = windows.filter(pl.col("window_tick") == pl.col("window_tick").max())
    assert result.manifest.last_tick is not None
    assert last["window_tick"][0] == result.manifest.last_tick // 60 * 60
    assert last["ticks"][0] == result.manifest.last_tick % 60 + 1
    assert last["cpu_time_ns"].sum() == last["ticks"][0] * 1_000_000 * len(online_cpus())


@pytest.mark.parametrize(("tick", "window"), [("0.5ms", 7), ("10ms", 1), ("100ms", 3)])
def test_other_lengths_of_tick_and_window(start_tracer: Callable[..., Tracer], tick: str, window: int) -> None:
    result = start_tracer("--tick", tick, "--window", str(window), "--duration", "2s", "--ticks").result()
    assert result.manifest.first_tick is not None
    assert result.manifest.last_tick is not None
    tick_ns = result.manifest.tick_ns
    assert (result.manifest.last_tick - result.manifest.first_tick + 1) * tick_ns == 2_000_000_000
    assert result.table("windows")["cpu_time_ns"].sum() == 2_000_000_000 * len(online_cpus())
    assert result.table("windows")["ticks"].max() == window
    per_tick = result.table("ticks").group_by("cpu", "tick").agg(pl.sum("cpu_time_ns"))
    assert per_tick["cpu_time_ns"].unique().to_list() == [tick_ns]


def test_rotation_leaves_closed_files_while_it_runs(start_tracer: Callable[..., Tracer]) -> None:
    tracer = start_tracer("--rotate", "1s", "--duration", "6s")
    tracer.wait_until_tracing()
    while len(closed_files(tracer.output / "windows")) < 2:
        assert tracer.process.poll() is None, "it ended before it had closed two files"
        time.sleep(0.05)
    early = {path: path.read_bytes() for path in closed_files(tracer.output)}
    (manifest,) = tracer.output.glob("runs/*/session.json")
    assert read_manifest(manifest).status == "running"
    assert read_manifest(manifest).totals.rows["windows"] > 0
    result = tracer.result()
    assert all(path.read_bytes() == content for path, content in early.items())
    assert result.table("windows")["cpu_time_ns"].sum() == 6 * 10**9 * len(online_cpus())


def test_two_runs_into_one_output(start_tracer: Callable[..., Tracer]) -> None:
    first = start_tracer("--duration", "3s", "--rotate", "1s")
    second = start_tracer("--duration", "3s", "--rotate", "1s")
    assert (first.end(), second.end()) == (0, 0), first.said + second.said
    manifests = [read_manifest(path) for path in first.output.glob("runs/*/session.json")]
    assert [manifest.status for manifest in manifests] == ["finished"] * 2
    for manifest in manifests:
        own = pl.concat(
            pl.read_parquet(path)
            for path in closed_files(first.output / "windows")
            if f"-{str(manifest.run_id)[:8]}-" in path.name
        )
        assert own["cpu_time_ns"].sum() == 3 * 10**9 * len(online_cpus())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system with room for 1 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tracer-test", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk_ends_the_run_or_costs_the_oldest_files(
    start_tracer: Callable[..., Tracer], small_disk: Path
) -> None:
    output = small_disk / "results"
    options = ("--ticks", "--rotate", "1s", "--keep", "none")
    stopped = start_tracer(*options, "--on-full", "stop", "--duration", "120s", output=output)
    assert stopped.end() == 4
    assert stopped.said.splitlines()[-1].startswith("tracer: error: ")
    assert "Traceback" not in stopped.said
    assert not list(output.rglob("*.inprogress"))
    before = closed_files(output)
    for path in before:
        pl.read_parquet(path)

    going_on = start_tracer(*options, "--on-full", "delete-oldest", "--duration", "5s", output=output)
    assert going_on.end() == 0, going_on.said
    after = closed_files(output)
    assert set(before) - set(after)
    for path in after:
        pl.read_parquet(path)


def test_keep_bounds_the_results(start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]) -> None:
    new_container().start(SWITCHING)
    options = ("--ticks", "--tick", "0.5ms", "--rotate", "1s", "--keep", "1MiB", "--event", "cycles=software:cpu-clock")
    result = start_tracer(*options, "--duration", "20s").result()
    assert result.manifest.totals.files_removed > 0
    assert sum(path.stat().st_size for path in closed_files(result.output)) <= 1 << 20
    assert result.table("windows")["window_start"].max() is not None


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("--event", "cycles=nonsense"), 2, "no event 'nonsense'"),
        (("--event", "watts=cycles"), 2, "no counter 'watts'"),
        (("--duration", "soon"), 2, "--duration: not a duration: 'soon'"),
        (("--duration", "0s"), 2, "--duration must be at least one tick"),
        (("--tick", "0.1ms"), 2, "--tick must be between"),
        (("--tick", "1s"), 2, "--tick must be between"),
        (("--window", "0"), 2, "--window must be between"),
        (("--keep", "lots"), 2, "--keep: not a size: 'lots'"),
        (("--keep", "1KiB"), 2, "--keep must be at least"),
        (("--ring-size", "5000"), 2, "--ring-size must be a power of two"),
        (("--tick", "1000001ns"), 2, "--tick must be a whole number of microseconds"),
        (("--identifier", ""), 2, "the identifier must not be empty"),
        (("--identifier", "__HIVE_DEFAULT_PARTITION__"), 2, "the identifier must not be __HIVE"),
        (("--identifier", "x" * 300), 2, "the identifier 'xxx"),
        (("--containerd-state", "/nope"), 2, "--containerd-state: cannot read '/nope': No such file or directory"),
        (("--containerd-state", "nope"), 2, "--containerd-state: cannot read 'nope': No such file or directory"),
        (("--containerd-state", "/etc/passwd"), 2, "--containerd-state: cannot read '/etc/passwd': Not a directory"),
        (("--containerd-state", "/", "--containerd-state", ""), 2, "--containerd-state must not be empty"),
        (("--config", "/nonexistent"), 2, "cannot read --config"),
        (("--on-full", "explode"), 2, "explode"),
        (("--nonsense",), 2, "no option '--nonsense'"),
        (("--dur", "3s"), 2, "no option '--dur'; did you mean '--duration'?"),
        (("--event", "cycle=cycles"), 2, "did you mean 'cycles'?"),
    ],
)
def test_a_mistake_gives_one_line_and_leaves_nothing(
    start_tracer: Callable[..., Tracer], tmp_path: Path, options: tuple[str, ...], code: int, says: str
) -> None:
    tracer = start_tracer(*options)
    assert tracer.end() == code
    assert says in tracer.said
    assert "Traceback" not in tracer.said
    assert len(tracer.said.splitlines()) == 1
    assert tracer.said.startswith("tracer: error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('tick = "1ms"\nnonsense = 1\n', "no option 'nonsense'"),
        ('duratoin = "1s"\n', "no option 'duratoin'; did you mean 'duration'?"),
        ('on-full = "delete"\n', "no value 'delete'; did you mean 'delete-oldest'?"),
        ("window = 1.5\n", "window must be a number"),
        ("window = true\n", "window must be a number"),
        ("event = [1]\n", "event must be a list of strings"),
        ('containerd-state = ["/", "/nope"]\n', "--containerd-state: cannot read '/nope'"),
        ('containerd-state = ["a\\u0000b"]\n', "--containerd-state: 'a\\x00b' is no path"),
        ("= 1", "is not TOML"),
        ("\x00", "is not TOML"),
    ],
)
def test_a_bad_configuration_file(start_tracer: Callable[..., Tracer], tmp_path: Path, content: str, says: str) -> None:
    config = tmp_path / "tracer.toml"
    config.write_text(content)
    tracer = start_tracer("--config", str(config))
    assert tracer.end() == 2
    assert says in tracer.said
    assert len(tracer.said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [config]


def test_a_configuration_file_gives_way_to_the_command_line(
    start_tracer: Callable[..., Tracer], tmp_path: Path
) -> None:
    config = tmp_path / "tracer.toml"
    config.write_text(
        'duration = "90s"\ntick = "10ms"\nwindow = 10\nticks = true\nevent = ["cycles=software:cpu-clock"]\n'
    )
    result = start_tracer("--config", str(config), "--duration", "1s").result()
    configuration = result.manifest.configuration
    assert configuration["duration_ns"] == 10**9
    assert (configuration["tick_ns"], configuration["window_ticks"]) == (10_000_000, 10)
    assert configuration["events"]["cycles"] == "software:cpu-clock"
    assert result.table("ticks").height > 0


def test_an_output_that_cannot_be_written(start_tracer: Callable[..., Tracer], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    read_only = tmp_path / "read-only"
    read_only.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tracer-test", read_only], check=True)
    try:
        for output in (file, file / "below", read_only, read_only / "results"):
            tracer = start_tracer(output=output)
            assert tracer.end() == 4
            assert re.fullmatch(r"tracer: error: cannot write to the output .*\n", tracer.said)
        assert list(read_only.iterdir()) == []
    finally:
        subprocess.run(["umount", read_only], check=True)
    assert sorted(tmp_path.iterdir()) == [file, read_only]


@pytest.mark.parametrize("command", ["run", "demo"])
def test_without_root(tmp_path: Path, command: str) -> None:
    output = tmp_path / "results"
    # Who may read the checkout wherever it lies, and nothing else.
    capability = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *capability]
    ended = subprocess.run(
        [*nobody, sys.executable, "-m", "tracer.cli.main", command, "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 3, ended.stderr
    assert re.fullmatch(r"tracer: error: .*root.*\n", ended.stderr)
    assert not output.exists()


@pytest.mark.core
def test_nothing_of_the_tracer_stays_in_the_kernel(start_tracer: Callable[..., Tracer]) -> None:
    before = set(bpf_programs())
    tracer = start_tracer()
    tracer.wait_until_tracing()
    loaded = set(bpf_programs()) - before
    assert len(loaded) >= 3
    assert [run.status for run in list_runs(tracer.output).runs] == ["running"]
    tracer.process.kill()
    tracer.end()
    assert [run.status for run in list_runs(tracer.output).runs] == ["killed"]
    for _attempt in range(50):
        if not loaded & set(bpf_programs()):
            break
        time.sleep(0.1)
    assert not loaded & set(bpf_programs())


@pytest.fixture
def second_cpu() -> Iterator[Path]:
    """The switch of a CPU that can go offline; it is online again when the test is over."""
    switch = Path(f"/sys/devices/system/cpu/cpu{online_cpus()[-1]}/online")
    yield switch
    switch.write_text("1")


def test_a_cpu_goes_offline_and_comes_back(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup], second_cpu: Path
) -> None:
    cpu = int(second_cpu.parent.name.removeprefix("cpu"))
    tracer = start_tracer("--ticks", "--duration", "12s", "--event", "cycles=software:cpu-clock")
    tracer.wait_until_tracing()
    container = new_container()
    container.start(f"{SPIN} & {SPIN}")
    time.sleep(2)
    second_cpu.write_text("0")
    offline_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    time.sleep(3)
    online_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    second_cpu.write_text("1")
    # The scheduler may leave what runs elsewhere where it is.
    container.start(f"exec taskset -c {cpu} sh -c '{SPIN}'")
    result = tracer.result()

    assert [note.split(": ")[1] for note in result.manifest.notes if f": CPU {cpu} " in note] == [
        f"CPU {cpu} went offline",
        f"CPU {cpu} came online",
    ]
    assert result.manifest.totals.records_lost == 0
    all_cpus = result.manifest.topology["online"]
    assert [change.topology["online"] for change in result.manifest.topology_changes] == [
        format_cpu_list(set(parse_cpu_list(all_cpus)) - {cpu}),
        all_cpus,
    ]
    ticks = result.table("ticks").filter(pl.col("cpu") == cpu)
    begin, end = offline_ns // 1_000_000, online_ns // 1_000_000
    # Who waited for another CPU before, and was taken to this one later, waited here: docs/accounting.md.
    ran = pl.col("cpu_time_ns") > 0
    assert ticks.filter(pl.col("tick").is_between(begin + 1, end - 1), ran).is_empty()
    assert not ticks.filter(pl.col("tick") < begin).is_empty()
    after = ticks.filter(pl.col("tick") > end + 2000)
    assert not after.is_empty()
    # On the ticks again, and counting again.
    assert after.group_by("tick").agg(pl.sum("cpu_time_ns"))["cpu_time_ns"].unique().to_list() == [1_000_000]
    of_container = after.filter(pl.col("cgroup_id") == container.id)
    assert abs(of_container["cycles"].sum() / of_container["cpu_time_ns"].sum() - 1) < 0.01
