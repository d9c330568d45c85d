# SPDX-License-Identifier: Apache-2.0
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import numpy as np
import pytest
from recording_examples import START, write_rows
from store_examples import new_store
from test_manifest import example_manifest

from tracer.analysis.comparison.compare import compare
from tracer.analysis.comparison.limits import parse_limit
from tracer.analysis.comparison.results import Comparison, MetricChange, WorkloadChange
from tracer.analysis.comparison.sides import open_side
from tracer.errors import UsageError

WINDOW_NS = 60_000_000
WINDOWS = 600


def windows(
    seed: int,
    cgroup_id: int,
    *,
    cpi: float | None = 1.2,
    load: float = 1,
    misses: float = 2,
    switches: int = 20,
    at: range = range(WINDOWS),
    **identity: Any,
) -> list[dict[str, Any]]:
    """A container that runs at about half of a CPU of 2 GHz; load and CPI are noisy, and null if `cpi` is."""
    generator = np.random.default_rng([seed, cgroup_id])
    noise = np.exp(generator.normal(0, 0.05, (len(at), 3)))
    rows = []
    for number, (of_load, of_cpi, of_misses) in zip(at, noise, strict=True):
        cpu_time_ns = 30e6 * load * of_load
        counted = (
            {} if cpi is None else {"cycles": int(2 * cpu_time_ns), "instructions": int(2 * cpu_time_ns / cpi / of_cpi)}
        )
        if counted:
            counted["llc_misses"] = int(counted["instructions"] * misses / 1000 * of_misses)
        rows.append(
            {
                "window_start": START + timedelta(milliseconds=60 * number),
                "window_tick": 60 * number,
                "cgroup_id": cgroup_id,
                "cpu_time_ns": int(cpu_time_ns),
                "context_switches": switches,
                **counted,
                **identity,
            }
        )
    return rows


def container(pod_name: str, **others: Any) -> dict[str, Any]:
    return {"namespace": "shop", "pod_name": pod_name, "container_name": "app", **others}


def compared(tmp_path: Path, a: list[dict[str, Any]], b: list[dict[str, Any]], *limits: str) -> Comparison:
    for side, rows in (("a", a), ("b", b)):
        write_rows(tmp_path / side, "windows", rows)
    sides = (open_side(str(tmp_path / side)) for side in ("a", "b"))
    return compare(*sides, [parse_limit(limit) for limit in limits])


def of(comparison: Comparison, name: str) -> tuple[WorkloadChange, dict[str, MetricChange]]:
    (workload,) = (one for one in comparison.workloads if one.name == name)
    return workload, {change.metric: change for change in workload.changes}


def test_a_rollout_is_the_same_workload_and_its_changes_are_found(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path,
        windows(1, 10, **container("web-7d9f8c6b5d-x2x7q")) + windows(1, 11, **container("db-0")),
        windows(2, 30, cpi=1.32, misses=4, switches=30, **container("web-5c4d9b7f68-zz4kq"))
        + windows(2, 31, cpi=1.2, **container("db-0")),
    )
    assert [one.name for one in comparison.workloads] == ["shop/web/app", "shop/db-0/app"]
    assert comparison.tests == 10
    web, changes = of(comparison, "shop/web/app")
    assert (web.cgroups_before, web.cgroups_after) == (1, 1)
    expected = {
        "cpi": 0.1,
        "misses_per_kilo_instruction": 1,
        "instructions_per_second": -0.0909,
        "context_switches_per_second": 0.5,
    }
    for metric, change in expected.items():
        assert changes[metric].change == pytest.approx(change, abs=0.03)
        assert changes[metric].low <= change <= changes[metric].high
        assert changes[metric].holds
    assert changes["cores"].before == pytest.approx(0.5, rel=0.02)
    assert changes["instructions_per_second"].before == pytest.approx(1e9 / 1.2, rel=0.02)
    assert changes["context_switches_per_second"].before == pytest.approx(20 / 0.06)
    assert changes["cpi"].effect > 0.7
    assert not changes["cores"].holds
    assert web.cores_at_stake == pytest.approx(0.5 / 11, rel=0.2)
    _db, changes = of(comparison, "shop/db-0/app")
    assert not any(change.holds for change in changes.values())


def test_replicas_are_added_up(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path,
        windows(1, 10, **container("web-x2x7q")),
        [row for cgroup in (20, 21, 22) for row in windows(2, cgroup, **container(f"web-x2x7{cgroup % 10 + 4}"))],
    )
    web, changes = of(comparison, "shop/web/app")
    assert (web.cgroups_before, web.cgroups_after) == (1, 3)
    assert changes["cores"].change == pytest.approx(2, rel=0.05)
    assert abs(changes["cpi"].change) < 0.02
    assert changes["cpi"].before < 1.3


def test_namespaces_and_containers_of_one_pod_are_apart(tmp_path: Path) -> None:
    rows = (
        windows(1, 10, **container("web-x2x7q"))
        + windows(1, 11, **container("web-x2x7q", container_name="proxy"))
        + windows(1, 12, **container("web-x2x7q", namespace="test"))
    )
    comparison = compared(tmp_path, rows, rows)
    assert {one.name for one in comparison.workloads} == {"shop/web/app", "shop/web/proxy", "test/web/app"}


def test_what_is_in_one_only_is_listed_by_cpu_time(tmp_path: Path) -> None:
    comparison = compared(
        tmp_path,
        windows(1, 10, **container("web-0")) + windows(1, 11, load=0.1, cgroup_path="/old", cgroup_kind="other"),
        windows(2, 10, **container("web-0"))
        + windows(2, 12, load=0.2, cgroup_path="/new", cgroup_kind="other")
        + windows(2, 13, load=0.4, cgroup_path="/system.slice/newer.service", cgroup_kind="unit")
        + windows(2, 0, cgroup_kind="idle"),
    )
    assert [(one.name, round(one.cores, 2), one.cgroups) for one in comparison.only_before] == [("/old", 0.05, 1)]
    assert [one.name for one in comparison.only_after] == ["newer.service", "/new"]
    assert [one.name for one in comparison.workloads] == ["shop/web-0/app"]


def test_without_counters_cpu_time_and_switches_are_compared(tmp_path: Path) -> None:
    rows = windows(1, 10, cpi=None, **container("web-0"))
    comparison = compared(tmp_path, rows, windows(2, 10, **container("web-0")))
    _web, changes = of(comparison, "shop/web-0/app")
    assert set(changes) == {"cores", "context_switches_per_second"}
    assert {"no-cycles", "no-llc-counter", "no-instructions"} <= {caveat.id for caveat in comparison.caveats}
    with pytest.raises(UsageError, match="--fail-on 'cpi>5%' cannot be judged: no workload's cpi was compared"):
        compared(tmp_path / "limited", rows, rows, "cpi>5%")


def test_counters_that_broke_off_are_as_good_as_the_rest_of_the_time(tmp_path: Path) -> None:
    some = windows(1, 10, **container("web-0"))
    for row in some[:200]:
        row.update(cycles=None, instructions=None, llc_misses=None)
    comparison = compared(tmp_path, some, windows(2, 10, **container("web-0")))
    _web, changes = of(comparison, "shop/web-0/app")
    assert changes["instructions_per_second"].before == pytest.approx(1e9 / 1.2, rel=0.02)
    assert changes["cpi"].before == pytest.approx(1.2, rel=0.02)


def test_rows_from_before_a_name_was_known_are_counted_with_it(tmp_path: Path) -> None:
    named = windows(1, 10, cgroup_path="/kubepods/x", **container("web-0"))
    for row in named[:5]:
        row.update(namespace=None, pod_name=None, container_name=None, cgroup_path=None, cgroup_kind="unknown")
    # After the node was restarted, another cgroup has its id.
    other = windows(1, 10, at=range(2000, 2600), cgroup_path="/build", cgroup_kind="other")
    comparison = compared(tmp_path, named + other, named)
    assert {one.name for one in comparison.workloads} == {"shop/web-0/app"}
    assert [one.name for one in comparison.only_before] == ["/build"]
    web, _changes = of(comparison, "shop/web-0/app")
    assert web.cores_after == pytest.approx(0.5, rel=0.02)


def test_what_hardly_ran_is_not_compared_and_it_is_said_why(tmp_path: Path) -> None:
    brief = windows(1, 11, at=range(9), **container("etl-28391820-abcde"))
    rows = windows(1, 10, **container("web-0"))
    comparison = compared(tmp_path, rows + brief, rows + windows(2, 11, switches=0, **container("etl-28391825-x2x7q")))
    etl, changes = of(comparison, "shop/etl/app")
    assert etl.not_compared["cpi"] == "too little of it in A: 9 time slices, 32 are needed"
    assert etl.not_compared["context_switches_per_second"] == "none in B"
    # One burst of CPU time is no base for more.
    assert not changes["cores"].holds


def test_a_gap_is_no_time_in_which_nothing_ran(tmp_path: Path) -> None:
    rows = windows(1, 10, **container("web-0"))
    later = windows(1, 10, at=range(5000, 5600), **container("web-0"))
    comparison = compared(tmp_path, rows, rows + later)
    assert comparison.after.seconds == 72
    assert comparison.after.cores == pytest.approx(0.5, rel=0.02)


def test_several_nodes_are_added_up(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for node in ("node-1", "node-2", "node-3"):
        write_rows(a, "windows", windows(1, 10, **container("web-x2x7q")), node_name=node)
    write_rows(b, "windows", windows(2, 10, **container("web-x2x7q")), node_name="node-1")
    comparison = compare(open_side(str(a)), open_side(str(b)))
    web, _changes = of(comparison, "shop/web/app")
    assert web.cores_before == pytest.approx(1.5, rel=0.02)
    assert (web.cgroups_before, web.cgroups_after) == (3, 1)
    assert comparison.before.nodes == ["node-1", "node-2", "node-3"]


def test_a_row_that_came_late_is_part_of_its_window(tmp_path: Path) -> None:
    rows = windows(1, 10, **container("web-0"))
    comparison = compared(tmp_path, rows, [*rows, *(row | {"ticks": 60} for row in rows[:100])])
    assert comparison.after.seconds == comparison.before.seconds == 36
    web, _changes = of(comparison, "shop/web-0/app")
    assert web.cores_after == pytest.approx(0.5 * 7 / 6, rel=0.02)


@pytest.mark.parametrize(
    ("limit", "exceeded"),
    [
        ("cpi>5%", True),
        ("cpi>9.9%", False),
        ("cpi>20%", False),
        ("cpi<-5%", False),
        ("instr<-5%", True),
        ("instructions_per_second < -20 %", False),
        ("misses_per_kilo_instruction>95%", True),
        ("cores>0%", False),
    ],
)
def test_a_limit_is_exceeded_only_by_the_whole_interval(tmp_path: Path, limit: str, exceeded: bool) -> None:
    comparison = compared(
        tmp_path,
        windows(1, 10, **container("web-0")) + windows(1, 11, **container("db-0")),
        windows(2, 10, cpi=1.32, misses=4, **container("web-0")) + windows(2, 11, **container("db-0")),
        limit,
    )
    (verdict,) = comparison.verdicts
    assert [excess.workload for excess in verdict.exceeded] == (["shop/web-0/app"] if exceeded else [])
    assert len(verdict.exceeded) + verdict.kept + verdict.undecided == 2
    if limit == "cpi>20%":
        assert verdict.kept == 2
    if limit == "cpi>5%":
        assert verdict.exceeded[0].change == pytest.approx(0.1, abs=0.02)
        assert 0.05 < verdict.exceeded[0].at_least < verdict.exceeded[0].change


@pytest.mark.parametrize(
    "text", ["", "cpi", "cpi>5", "cpi=5%", "cpi>-5%", "cpi<5%", "cpi<-100%", "c>5%", "speed>5%", "cpi>5%%", "cpi>1e9%"]
)
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-on"):
        parse_limit(text)


def test_many_workloads_of_noise_exceed_nothing(tmp_path: Path) -> None:
    def noise(seed: int) -> list[dict[str, Any]]:
        return [
            row for cgroup in range(40) for row in windows(seed, cgroup, at=range(60), **container(f"web-{cgroup}"))
        ]

    comparison = compared(tmp_path, noise(1), noise(2), "cpi>1%", "cpi<-1%", "cores>1%", "instr<-1%")
    assert [verdict.exceeded for verdict in comparison.verdicts] == [[], [], [], []]
    assert not any(change.holds for one in comparison.workloads for change in one.changes)


def test_sides_of_one_directory(tmp_path: Path) -> None:
    first, second = UUID("0123abcd-4567-489a-8bcd-ef0123456789"), UUID("0123ffff-4567-489a-8bcd-ef0123456789")
    odd = tmp_path / "re@sults"
    write_rows(odd, "windows", windows(1, 10), run_id=first)
    write_rows(odd, "windows", windows(2, 10, at=range(1000, 1600)), run_id=second)
    assert open_side(str(odd)).span.end > START + timedelta(seconds=90)
    assert open_side(f"{odd}@0123a").span.end < START + timedelta(seconds=36)
    assert open_side(f"{odd}@0123f").span.start == START + timedelta(seconds=60)
    half = open_side(f"{odd}@0123abcd@..+18s")
    assert (half.span.start, half.span.end) == (START, START + timedelta(seconds=18))
    assert open_side(f"{odd}@14:00:06..").span.start == START + timedelta(seconds=6)
    assert open_side(f"{odd}@+6s..14:00:12@0123a").span.start == START + timedelta(seconds=6)
    assert open_side(f"{odd}@2026-11-22T14:00:06Z..2026-11-22T14:00:12Z").span.end == START + timedelta(seconds=12)
    for text in (f"{odd}@a@b", f"{odd}@1..@2..", f"{odd}@"):
        with pytest.raises(UsageError, match="not a recording"):
            open_side(text)
    with pytest.raises(UsageError, match=r"cannot read '.*none'"):
        open_side(f"{tmp_path}/none@0123")
    with pytest.raises(UsageError, match="nothing was recorded then"):
        open_side(f"{odd}@+10h..")


def write_manifest(output: Path, run_id: UUID, **changes: Any) -> None:
    store = new_store(output, run_id=run_id)
    store.write_manifest(example_manifest(run_id=run_id, **changes))
    store.close()


def test_ticks_of_other_lengths(tmp_path: Path) -> None:
    ids = [UUID(int=number << 96) for number in (1, 2)]
    for run_id, tick_ns, first in zip(ids, (10**6, 5 * 10**5), (0, 1000), strict=True):
        write_rows(tmp_path, "windows", windows(1, 10, at=range(first, first + 600)), run_id=run_id)
        write_manifest(tmp_path, run_id, tick_ns=tick_ns)
    with pytest.raises(UsageError, match="ticks of different lengths: choose one by DIR@RUN"):
        compare(open_side(f"{tmp_path}@all"), open_side(f"{tmp_path}@all"))
    for first, second in ((str(ids[0]), str(ids[1])), ("all@..+50s", "all@+50s..")):
        sides = [open_side(f"{tmp_path}@{selection}") for selection in (first, second)]
        assert compare(*sides).after.seconds == 18


def test_a_recording_of_one_row_is_one_of_which_nothing_can_be_said(tmp_path: Path) -> None:
    comparison = compared(tmp_path, windows(1, 10, at=range(1)), windows(2, 10))
    assert comparison.tests == 0
    (one,) = comparison.workloads
    assert one.not_compared["cpi"].startswith("too little of it in A: 1 time slices")
    assert "too-little-data" in {caveat.id for caveat in comparison.caveats}


def test_long_recordings_are_summed_up_by_slices(tmp_path: Path) -> None:
    # Ten hours, of which a window each 1.8 s is kept, against a minute of them.
    sparse = range(0, 600_000, 30)
    comparison = compared(tmp_path, windows(1, 10, at=sparse), windows(2, 10, at=range(1000)))
    assert comparison.slice_seconds == pytest.approx(36_000 / 16_384, abs=0.06)
    assert comparison.slice_seconds / 0.06 == pytest.approx(round(comparison.slice_seconds / 0.06))
    (one,) = comparison.workloads
    assert one.cores_before == pytest.approx(0.5, rel=0.02)
    assert not any(change.holds for change in one.changes)


def test_other_circumstances_and_losses_are_told(tmp_path: Path) -> None:
    for side, model in (("a", "Example 1"), ("b", "Example 2")):
        run_id = UUID(int=ord(side) << 96)
        write_rows(tmp_path / side, "windows", windows(1, 10), run_id=run_id)
        host = msgspec.structs.replace(example_manifest().host, cpu_model=model)
        write_manifest(tmp_path / side, run_id, host=host, status="finished" if side == "a" else "running")
        write_rows(tmp_path / side, "health", [{"time": START, "records": 90, "lost_ring_full": 10}], run_id=run_id)
    comparison = compare(open_side(str(tmp_path / "a")), open_side(str(tmp_path / "b")))
    texts = {caveat.id: caveat.text for caveat in comparison.caveats}
    assert texts["loss"] == "A and B: 10 of 100 records were lost (10 %)"
    assert texts["unfinished-run"].startswith("B: run 00000062 on node-1 is running")
    assert texts["processor"] == "not the same processor: Example 1 in A, Example 2 in B"
    same = compare(open_side(str(tmp_path / "a")), open_side(str(tmp_path / "a@..+20s")))
    assert "overlap" in {caveat.id for caveat in same.caveats}


def waiting(rows: list[dict[str, Any]], per_cpu_time: float) -> list[dict[str, Any]]:
    generator = np.random.default_rng(7)
    noise = np.exp(generator.normal(0, 0.3, len(rows)))
    return [
        row | {"wait_time_ns": int(row["cpu_time_ns"] * per_cpu_time * factor)}
        for row, factor in zip(rows, noise, strict=True)
    ]


@pytest.mark.parametrize(("before", "after", "exceeded"), [(0.02, 0.3, True), (0.001, 0.003, False), (0, 0, False)])
def test_waiting_slows_down_by_what_it_adds_to_the_cpu_time(
    tmp_path: Path, before: float, after: float, exceeded: bool
) -> None:
    web = windows(1, 7, cpi=None, **container("web-1"))
    found = compared(tmp_path, waiting(web, before), waiting(web, after), "wait>5%")
    change = next(one for one in found.workloads[0].changes if one.metric == "wait_slowdown")
    assert change.before == pytest.approx(1 + before, rel=0.02)
    assert change.after == pytest.approx(1 + after, rel=0.05)
    assert bool(found.verdicts[0].exceeded) == exceeded


def test_windows_in_which_it_only_waited_count(tmp_path: Path) -> None:
    web = windows(1, 7, cpi=None, **container("web-1"))
    starved = [row | {"cpu_time_ns": 0, "wait_time_ns": WINDOW_NS} if n % 2 else row for n, row in enumerate(web)]
    starved = [row | {"wait_time_ns": row.get("wait_time_ns", 0)} for row in starved]
    found = compared(tmp_path, waiting(web, 0.0), starved)
    change = next(one for one in found.workloads[0].changes if one.metric == "wait_slowdown")
    assert change.after == pytest.approx(3, rel=0.05)


def test_waits_of_one_side_are_not_compared(tmp_path: Path) -> None:
    web = windows(1, 7, cpi=None, **container("web-1"))
    found = compared(tmp_path, waiting(web, 0.1), web)
    assert "wait_slowdown" not in {one.metric for one in found.workloads[0].changes}
    assert [caveat.text for caveat in found.caveats if caveat.id == "no-waits"] == [
        "B: no waits were recorded, so they are not compared"
    ]
