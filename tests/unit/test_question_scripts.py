# SPDX-License-Identifier: Apache-2.0
"""The scripts that people copy, as they run them: on a simulated node of which is known what happened."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import polars as pl
import pytest
from planted_recording import container, write_recording
from planted_waits import IDLE_CPU, MS, SELF, Load, tables_of
from question_scripts import SCRIPTS, WHO_WAITED, dependencies, question
from recording_examples import START, windows_rows, write_rows

from tracer.naming import Who, name_of
from tracer.simulate import simulate

VICTIM, AGGRESSOR = "shop/web-1/app", "jobs/batch-7/etl"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In which batch-7/etl displaces the cache of web-1/app, among others."""
    output = tmp_path_factory.mktemp("simulated")
    simulate("cache-thrash", seed=1, duration_ns=20 * 10**9, output=output, ticks=True, containers=8)
    return output


def test_each_can_be_copied() -> None:
    for script in [*SCRIPTS, WHO_WAITED]:
        text = script.read_text()
        assert text.count("\n") < 180, script
        assert dependencies(text) == ["polars>=1.20"]
        assert set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE)) <= {
            "collections", "polars", "signal", "sys", "pathlib", "typing",
        }  # fmt: skip
        assert f": {script.name} DIR" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_each_fits_a_terminal_and_says_how_it_is_used(script: Path, recording: Path, tmp_path: Path) -> None:
    lines = question(script, recording).splitlines()
    assert 5 < len(lines) < 60
    assert max(map(len, lines)) <= 80
    for arguments, said in (
        ((), f"usage: {script.name} DIR"),
        ((tmp_path / "none",), "no (windows|ticks) .* can be read"),
    ):
        command = [sys.executable, str(script), *map(str, arguments)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert re.match(said, result.stderr)
        assert result.stderr.count("\n") == 1


def test_who_waited_behind_whom(tmp_path: Path) -> None:
    web, etl = container(1, "app", "web-1\x1b[31m"), container(2, "etl", "batch-7")
    loads = [
        Load(web, range(100), 9 * MS, {2: 15 * MS, SELF: 3 * MS, IDLE_CPU: 6 * MS}, stolen=3 * MS),
        Load(etl, range(100), 45 * MS, {1: 6 * MS}),
    ]
    write_recording(tmp_path, **tables_of(loads))
    lines = question(WHO_WAITED, tmp_path).splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["shop/web-1\\x1b[31m/app", "10.0", "25.0", "5.0", "10.0", "0.0", "5.0"]
    assert [line.split() for line in lines[5:]] == [
        ["shop/web-1\\x1b[31m/app", "25.0%", "shop/batch-7/etl"],
        ["shop/batch-7/etl", "10.0%", "shop/web-1\\x1b[31m/app"],
    ]
    command = [sys.executable, str(WHO_WAITED), str(tmp_path / "none")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("no waits of `tracer run` (without --waits off)")


def test_the_noisy_neighbour_is_found(recording: Path) -> None:
    first = question("noisy_neighbours", recording).splitlines()[1]
    assert first.startswith(VICTIM)
    assert AGGRESSOR in first
    quiet, noisy, more = re.findall(r"[+-]?\d+\.\d+", first)
    assert float(noisy) > 1.1 * float(quiet)
    assert float(more) == pytest.approx(100 * (float(noisy) / float(quiet) - 1), abs=1.5)


def test_neighbours_misses_tell_of_the_cpi_at_the_same_own_misses(recording: Path) -> None:
    lines = question("cpi_by_llc_misses", recording, VICTIM).splitlines()
    assert lines[0].startswith(f"{VICTIM}: CPI ")
    rows = [line.split()[-3:] for line in lines[2:7]]
    both = [(float(little), float(much)) for little, _middling, much in rows if "-" not in (little, much)]
    assert both
    assert all(much > little for little, much in both)
    assert question("cpi_by_llc_misses", recording).count("CPI") == 3


def test_the_burst_is_the_aggressors_and_slows_the_victim(recording: Path) -> None:
    lines = question("burst_timeline", recording).splitlines()
    assert lines[0] == f"A = {AGGRESSOR}"
    assert any(line.endswith(f"CPI of {VICTIM}") for line in lines)
    ticks = [line for line in lines if re.match(r" +\d+\.\d ", line)]
    assert len(ticks) == 40
    burst = [line for line in ticks if line.count("A") > 20]
    assert 5 <= len(burst) < 40
    ticks_of_truth = pl.read_parquet(recording / "ticks/**/*.parquet").group_by("tick_start").agg(pl.sum("llc_misses"))
    most = max(float(line.split()[1]) for line in ticks)
    assert most == pytest.approx(ticks_of_truth["llc_misses"].max() * 64 / 1e6, rel=0.5)
    assert "CPI of shop/web-2/app" in question("burst_timeline", recording, "web-2")


def test_the_histogram_is_of_all_instructions(recording: Path) -> None:
    lines = question("cpi_histogram", recording, VICTIM).splitlines()
    assert re.fullmatch(rf"{VICTIM}: CPI \d\.\d\d, by ticks", lines[0])
    shares = [float(line.split()[1].rstrip("%")) for line in lines[3:]]
    assert len(shares) == 20
    assert sum(shares) == pytest.approx(100, abs=1)
    mean = float(lines[0].split()[2].rstrip(","))
    starts = [float(line.split()[0]) for line in lines[3:]]
    width = starts[1] - starts[0]
    assert sum(share / 100 * (start + width / 2) for share, start in zip(shares, starts, strict=True)) == pytest.approx(
        mean, rel=0.05
    )


def test_memory_against_cpi_has_a_row_for_each_container(recording: Path) -> None:
    names = [line[:28].strip() for line in question("memory_against_cpi", recording).splitlines()[2:]]
    assert {VICTIM, AGGRESSOR} <= set(names)


def test_nodes_are_kept_apart(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        simulate(
            "cache-thrash", seed=seed, duration_ns=2 * 10**9, output=tmp_path, ticks=True, node_name=f"node-{seed}"
        )
    ticks = [line for line in question("burst_timeline", tmp_path).splitlines() if re.match(r" +\d+\.\d ", line)]
    assert len(ticks) <= 40
    assert [float(line.split()[0]) for line in ticks] == sorted({float(line.split()[0]) for line in ticks})
    assert f"{VICTIM} on node-1:" in question("cpi_histogram", tmp_path, f"{VICTIM} on node-1")
    for said in (question("noisy_neighbours", tmp_path), question("cpi_by_llc_misses", tmp_path, VICTIM)):
        assert {node for node in (1, 2, 3) if f"{VICTIM} on node-{node}" in said} == {1, 2, 3}


def test_all_call_a_container_as_tracer_does() -> None:
    uid, id_ = "3ac633f6-8235-4007-81c7-0c55a16e7ae8", "0123456789abcdef" * 4
    pod = {"pod_uid": uid, "pod_name": "web-1", "namespace": "shop"}
    unit = "/system.slice/user-1.slice/user@1.service/app.slice/dbus.service"
    there: list[dict[str, Any]] = [
        {"cgroup_kind": kind, "cgroup_path": "/k/p/c"} | who | of
        for who in ({}, {"pod_uid": uid}, {"pod_uid": uid, "pod_name": "web-1"}, pod)
        for kind, of in (
            *(("container", of) for of in ({"container_id": id_}, {"container_id": id_, "container_name": "app"})),
            *((kind, {"container_id": id_}) for kind in ("sandbox", "monitor")),
        )
    ]
    there += [{"cgroup_kind": "pod", "cgroup_path": "/k/p"} | pod]
    there += [{"cgroup_kind": "unit", "cgroup_path": path} for path in ("/system.slice", "/a.slice/b.service", unit)]
    there += [{"cgroup_kind": kind, "cgroup_path": path} for kind, path in (("other", "/"), ("mount", "/a/b"))]
    there += [{"cgroup_kind": "unknown"}]
    all_ = [Who(node_name="node-1", cgroup_id=number, **who) for number, who in enumerate(there)]
    # Rows from before a name was known, too.
    rows = [
        msgspec.structs.asdict(who) for who in [*(Who(node_name="node-1", cgroup_id=w.cgroup_id) for w in all_), *all_]
    ]
    expected = {who.cgroup_id: name_of(who) for who in all_}
    for script in [*SCRIPTS, WHO_WAITED, WHO_WAITED.with_name("busiest.py")]:
        names = runpy.run_path(str(script))["names"]
        frame = pl.LazyFrame(
            rows, schema_overrides=dict.fromkeys(Who.__struct_fields__, pl.String) | {"cgroup_id": pl.Int64}
        )
        assert dict(names(frame).select("cgroup_id", "name").collect().iter_rows()) == expected


@pytest.mark.parametrize("width", [6, 12, 25])
def test_names_that_are_cut_stay_different(width: int) -> None:
    wanted = [f"shop/checkout-{number}-{'x' * 40}/app" for number in range(30)] + ["short", "\x1b[2J\n"]
    shown = runpy.run_path(str(WHO_WAITED))["shown"](wanted, width)
    assert list(shown) == wanted
    assert len(set(shown.values())) == len(wanted)
    assert max(map(len, shown.values())) <= width
    assert all(text.isprintable() for text in shown.values())


def test_hostile_names_stay_on_their_line(tmp_path: Path) -> None:
    for number, name in enumerate(("evil\x1b[2J\nfake\u202e", "x" * 300)):
        rows = windows_rows(
            40,
            cgroup_id=number,
            pod_name=name,
            cycles=10**7,
            instructions=10**7,
            llc_misses=10**4,
            neighbour_llc_misses=5,
        )
        for position, row in enumerate(rows):
            row["cycles"] += position * 10_000
        write_rows(tmp_path, "windows", rows)
    both = f"{tmp_path}@all"
    for script, *arguments in (
        ("noisy_neighbours",),
        ("cpi_by_llc_misses",),
        ("cpi_histogram", "evil"),
        ("cpi_histogram", "xxx"),
        ("cpi_histogram", ""),
    ):
        said = question(script, both, *arguments)
        assert "\x1b" not in said
        assert "\u202e" not in said
        assert "fake" not in [line[:4] for line in said.splitlines()]
        assert max(map(len, said.splitlines())) <= 80


def test_the_newest_run_is_meant_unless_another_is_named(tmp_path: Path) -> None:
    newest = UUID("0123abcd-4567-489a-8bcd-ef0123456789")
    runs = (UUID(int=7 << 96), START, "first"), (newest, START + timedelta(hours=1), "second")
    for number, (run_id, start, name) in enumerate(runs):
        rows = windows_rows(
            40, cgroup_id=number, cgroup_path=name, cycles=(1 + number) * 10**7, instructions=(1 + number) * 10**7
        )
        for row in rows:
            row["window_start"] += start - START
        write_rows(tmp_path, "windows", rows, run_id=run_id)
    for named, said in (
        ("", "second"),
        ("@last", "second"),
        ("@0123", "second"),
        ("@0000", "first"),
        ("@all", "second"),
    ):
        assert question("cpi_histogram", f"{tmp_path}{named}").startswith(f"{said}: CPI 1.00")
    assert question("cpi_histogram", f"{tmp_path}@all", "s").startswith("2 containers: CPI 1.00")


def test_who_waited_knows_how_long_a_tick_is(tmp_path: Path) -> None:
    each = timedelta(milliseconds=600)
    rows = windows_rows(10, cpu_time_ns=3 * 10**8, wait_time_ns=0, cgroup_path="a")
    for number, row in enumerate(rows):
        row["window_start"] = START + number * each
    write_rows(tmp_path, "windows", rows)
    write_rows(tmp_path, "waits", [{"window_start": START, "cgroup_id": 7, "holder_cgroup_id": 0}])
    assert question(WHO_WAITED, tmp_path).splitlines()[1].split()[:2] == ["a", "50.0"]


def without(recording: Path, output: Path, *missing: str) -> Path:
    """A copy of a recording in which columns, and the table of waits if it has none, were not measured."""
    for path in recording.glob("*/**/*.parquet"):
        table = path.relative_to(recording).parts[0]
        if table == "waits" and "wait_time_ns" in missing:
            continue
        rows = pl.read_parquet(path, hive_partitioning=False)
        rows = rows.with_columns(
            pl.lit(None, rows.schema[name]).alias(name) for name in missing if name in rows.columns
        )
        copy = output / path.relative_to(recording)
        copy.parent.mkdir(parents=True, exist_ok=True)
        rows.write_parquet(copy)
    return output


COUNTERS = ("cycles", "instructions", "llc_misses", "neighbour_llc_misses")


@pytest.fixture(scope="module")
def uncounted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without a PMU: bursts of batch-7/etl take the CPUs of services, among them web-1/app."""
    counted, output = tmp_path_factory.mktemp("counted"), tmp_path_factory.mktemp("uncounted")
    simulate("cpu-hog", seed=1, duration_ns=20 * 10**9, output=counted, ticks=True)
    return without(counted, output, *COUNTERS)


@pytest.mark.parametrize("script", [*SCRIPTS, WHO_WAITED], ids=lambda script: script.stem)
def test_without_counters_each_answers_from_waiting(script: Path, uncounted: Path) -> None:
    lines = question(script, uncounted).splitlines()
    assert 5 < len(lines) < 60
    assert max(map(len, lines)) <= 80
    assert "CPI" not in " ".join(lines).replace("no CPI", "")
    assert (script == WHO_WAITED) != any("STRETCH" in line for line in lines)


def test_the_noisy_neighbour_is_found_without_counters(uncounted: Path) -> None:
    rows = {line[:25].strip(): line for line in question("noisy_neighbours", uncounted).splitlines()}
    assert AGGRESSOR in rows[VICTIM]
    quiet, noisy, _more = re.findall(r"[+-]?\d+\.\d+", rows[VICTIM])
    assert 1 <= float(quiet) < 0.8 * float(noisy)
    # It has two CPUs of its own.
    assert re.search(r" 1\.00 +1\.00 ", rows["jobs/batch-3/report"])


def test_without_counters_the_burst_is_that_of_waiting(uncounted: Path) -> None:
    text = question("burst_timeline", uncounted)
    waited = pl.read_parquet(uncounted / "ticks/**/*.parquet").group_by("tick_start").agg(pl.sum("wait_time_ns"))
    most = waited.sort("tick_start")["wait_time_ns"].rolling_sum(10).max()
    start = re.search(r"from (.*) UTC; STRETCH of (.*)", text)
    assert start is not None
    shown = waited.sort("tick_start").filter(pl.col("tick_start").dt.strftime("%Y-%m-%d %H:%M:%S%.6f") >= start[1])
    assert shown.head(40)["wait_time_ns"].rolling_sum(10).max() == pytest.approx(most, rel=0.05)


def bomb(path: Path) -> None:
    """A million rows that take little room."""
    one = pl.read_parquet(path, hive_partitioning=False).head(1)
    one[[0] * 1_000_000].write_parquet(path)
    assert path.stat().st_size < 500_000


BROKEN: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a device": lambda path: (path.unlink(), path.symlink_to("/dev/zero")),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a bomb": bomb,
}


SCRIPTS_OF_BROKEN = dict(
    zip(
        BROKEN,
        ("busiest", "burst_timeline", "who_waited", "cpi_histogram", "memory_against_cpi", "cpi_by_llc_misses"),
        strict=True,
    )
)


@pytest.mark.parametrize(("how", "script"), [*SCRIPTS_OF_BROKEN.items()])
def test_one_broken_file_costs_each_that_file(how: str, script: str, recording: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(recording, copy)
    for table in ("windows", "ticks", "waits", "resources"):
        whole = next((copy / table).glob("*/*/*.parquet"))
        broken = whole.with_name(whole.name.replace("-000000.", "-000009."))
        shutil.copy(whole, broken)
        BROKEN[how](broken)
        # What is none of ours is not even named.
        (whole.parent / "mine.parquet").write_text("mine")
    path = WHO_WAITED.with_name(f"{script}.py")
    said = subprocess.run([sys.executable, path, copy], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == question(path, recording).replace(str(recording), str(copy))
    assert said.stderr != ""
    assert all(re.match(r"left out: '.*-000009\.parquet' \(.*\)$", line) for line in said.stderr.splitlines())


def test_all_leave_out_the_same() -> None:
    texts = {
        re.search(r"^def is_whole.*?^def files.*?\n\n\n", path.read_text(), re.MULTILINE | re.DOTALL)
        for path in [*SCRIPTS, WHO_WAITED, WHO_WAITED.with_name("busiest.py")]
    }
    assert len({text and text[0] for text in texts}) == 1


def test_the_busiest_waited(uncounted: Path) -> None:
    text = question("busiest", uncounted)
    assert "WAITED ms" in text
    assert "LLC MISSES" not in text
    truth = pl.read_parquet(uncounted / "windows/**/*.parquet").filter(pl.col("pod_name") == "web-1")
    line = next(line for line in text.splitlines() if line.startswith(VICTIM))
    assert float(line.split()[-1].replace(",", "")) == pytest.approx(truth["wait_time_ns"].sum() / 1e6, abs=0.1)


def test_without_counters_and_waits_each_says_what_to_record(recording: Path, tmp_path: Path) -> None:
    bare = without(recording, tmp_path, *COUNTERS, "wait_time_ns")
    for script in [*SCRIPTS, WHO_WAITED]:
        result = subprocess.run([sys.executable, script, bare], capture_output=True, text=True, check=False)
        if script.stem == "burst_timeline":
            assert "this is CPU time" in result.stdout
            assert result.returncode == 0
        else:
            assert result.returncode == 2
            assert result.stdout == ""
            assert result.stderr.count("\n") == 1
            assert "--waits" in result.stderr
