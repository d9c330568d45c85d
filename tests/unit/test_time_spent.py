# SPDX-License-Identifier: Apache-2.0
"""Where the time went, in recordings in which it is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planted_recording import START_NS, WINDOW_NS, Columns, container, frame, windows_of, write_recording
from planted_waits import IDLE_CPU, MS, REST, SELF, THROTTLED, UNKNOWN, Load, tables_of

from tracer.analysis.engines import get_engine
from tracer.analysis.findings import Report, TimeSpent
from tracer.analysis.recording import open_recording
from tracer.analysis.recording_names import open_named
from tracer.analysis.report import report
from tracer.store.schemas import TABLES

WEB, ETL, DB = container(1, "app", "web-1"), container(2, "etl", "batch-7"), container(3, "db", "db-1")
MINUTE = range(1000)


def reported(
    output: Path, loads: Sequence[Load], *more: tuple[str, pl.DataFrame], tells_throttled: bool = True, **asked: Any
) -> Report:
    tables = tables_of(loads, tells_throttled=tells_throttled)
    for name, rows in more:
        tables.setdefault(name, []).append(rows)
    write_recording(output, **tables)
    return report(open_recording([output], **asked))


def spent(found: Report) -> dict[str, TimeSpent]:
    return {one.container.name: one for one in found.time_spent}


def resources(who: Columns, seconds: int = 61, node: str = "node-1", **columns: Any) -> tuple[str, pl.DataFrame]:
    time = {"time": START_NS + np.arange(seconds) * 10**9}
    return "resources", frame(TABLES["resources"], seconds, {"node_name": node, **who, **time, **columns})


def test_who_uses_less_than_whom_it_waits_for_is_held_back_by_it(tmp_path: Path) -> None:
    found = reported(tmp_path, [Load(WEB, MINUTE, 6 * MS, {2: 9 * MS}), Load(ETL, MINUTE, 45 * MS, {1: 5 * MS})])
    web, etl = spent(found)["shop/web-1/app"], spent(found)["shop/batch-7/etl"]
    assert (web.cause, web.held_back_ns) == ("others", 9000 * MS)
    assert (etl.cause, etl.held_back_ns) == ("fair-share", 0)
    assert web.time_ns == 1000 * WINDOW_NS
    assert found.headline == [
        "shop/web-1/app lost 9.00 s (15 % of its time) to shop/batch-7/etl: waited in the run queue 15 % of the time, "
        "15 % behind shop/batch-7/etl, 0.9 ms at a time."
    ]
    assert [(cost.container.name, cost.kind, cost.time_ns) for cost in found.costs] == [
        ("shop/web-1/app", "waiting", 9000 * MS)
    ]


def test_two_that_take_turns_wait_for_their_fair_share(tmp_path: Path) -> None:
    random = np.random.default_rng(1).integers(26, 34, 1000) * MS
    loads = []
    for number in MINUTE:
        windows, ran = range(number, number + 1), int(random[number])
        loads.append(Load(WEB, windows, ran, {2: 60 * MS - ran}))
        loads.append(Load(ETL, windows, 60 * MS - ran, {1: ran}))
    found = reported(tmp_path, loads)
    assert {one.cause for one in found.time_spent} == {"fair-share"}
    assert found.costs == []
    assert found.headline[0].startswith("No container got less than its share")
    assert "That was its fair share" in found.headline[1]


def test_replicas_with_requests_of_their_own_wait_for_their_fair_share(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    loads = []
    for number in MINUTE:
        ran = random.lognormal(2, 0.8, 2).clip(0.1, 30)
        # Who comes while the other runs waits for the rest of that.
        waits = ran[::-1] * random.uniform(0, 0.5, 2)
        for who, other, of_ran, wait in zip((WEB, ETL), (2, 1), ran, waits, strict=True):
            loads.append(Load(who, range(number, number + 1), int(of_ran * MS), {other: int(wait * MS)}))
    found = reported(tmp_path, loads)
    assert {one.cause for one in found.time_spent} == {"fair-share"}
    assert found.costs == []


def test_a_job_in_bursts_holds_back_though_it_uses_less_in_all(tmp_path: Path) -> None:
    loads = []
    for start in range(0, 1000, 20):
        loads.append(Load(WEB, range(start, start + 4), 20 * MS, {2: 20 * MS}))
        loads.append(Load(ETL, range(start, start + 4), 40 * MS, {1: 20 * MS}))
        loads.append(Load(WEB, range(start + 4, start + 20), 20 * MS, {}))
    found = reported(tmp_path, loads)
    web, etl = spent(found)["shop/web-1/app"], spent(found)["shop/batch-7/etl"]
    assert web.ran_ns > 2 * etl.ran_ns
    assert (web.cause, etl.cause) == ("others", "fair-share")
    assert web.bursts is not None
    assert (web.bursts.count, web.bursts.short_ms, web.bursts.long_ms) == (50, 240, 240)


@pytest.mark.parametrize(("weight", "cause"), [(100, "others"), (300, "fair-share")])
def test_a_share_is_by_weight(tmp_path: Path, weight: int, cause: str) -> None:
    web, etl = WEB | {"cgroup_path": "/web"}, ETL | {"cgroup_path": "/etl"}
    loads = [Load(web, MINUTE, 15 * MS, {2: 45 * MS}), Load(etl, MINUTE, 45 * MS, {1: 15 * MS})]
    found = reported(tmp_path, loads, resources(web, cpu_weight=100), resources(etl, cpu_weight=weight))
    assert spent(found)["shop/web-1/app"].cause == cause
    assert "no-weights" not in {caveat.id for caveat in found.caveats}


def test_weights_are_those_where_the_paths_part(tmp_path: Path) -> None:
    loads = [Load(WEB, MINUTE, 15 * MS, {2: 45 * MS}), Load(ETL, MINUTE, 45 * MS, {1: 15 * MS})]
    pods = [
        resources(
            {"cgroup_id": 90 + number, "cgroup_kind": "pod", "cgroup_path": f"/kubepods/pod{number}"}, cpu_weight=weight
        )
        for number, weight in ((1, 10), (2, 30))
    ]
    # Within its pod, each has all of it.
    own = [resources(who, cpu_weight=weight) for who, weight in ((WEB, 500), (ETL, 1))]
    assert spent(reported(tmp_path, loads, *pods, *own))["shop/web-1/app"].cause == "fair-share"


def test_weights_below_where_the_paths_part_do_where_nothing_else_was_recorded(tmp_path: Path) -> None:
    loads = [Load(WEB, MINUTE, 15 * MS, {2: 45 * MS}), Load(ETL, MINUTE, 45 * MS, {1: 15 * MS})]
    own = [resources(who, cpu_weight=weight) for who, weight in ((WEB, 100), (ETL, 300))]
    assert spent(reported(tmp_path, loads, *own))["shop/web-1/app"].cause == "fair-share"


def test_a_little_behind_many_is_nobodys_doing(tmp_path: Path) -> None:
    many = [container(number, "app", f"pod-{number}") for number in range(2, 8)]
    loads = [Load(who, MINUTE, 30 * MS, {}) for who in many]
    waits = dict.fromkeys(range(2, 8), MS // 3)
    found = reported(tmp_path, [Load(WEB, MINUTE, 12 * MS, waits), *loads])
    web = spent(found)["shop/web-1/app"]
    assert web.held_back_ns == web.behind_others_ns > 0.03 * web.time_ns
    assert web.cause == "several"
    assert found.costs == []
    assert found.headline[0].startswith("No container got less than its share")
    assert "That was little, and behind several." in found.headline[1]


def test_a_little_mostly_behind_one_is_its_doing(tmp_path: Path) -> None:
    loads = [Load(ETL, MINUTE, 45 * MS, {}), Load(DB, MINUTE, 30 * MS, {})]
    found = reported(tmp_path, [Load(WEB, MINUTE, 12 * MS, {2: MS, 3: MS // 2}), *loads])
    assert spent(found)["shop/web-1/app"].cause == "others"
    assert [cost.by.name for cost in found.costs if cost.by] == ["shop/batch-7/etl", "shop/db-1/db"]


def test_what_the_hypervisor_took_is_said_where_it_was_much(tmp_path: Path) -> None:
    loads = [Load(WEB, MINUTE, 20 * MS, {}, stolen=8 * MS), Load(ETL, MINUTE, 40 * MS, {}, stolen=4 * MS)]
    found = reported(tmp_path, loads)
    assert found.headline[0] == (
        "The hypervisor and interrupts took 20 % of the CPU time (steal), most from shop/web-1/app (40 % of its own)."
    )


def test_own_threads_idle_cpus_and_nobody_known_are_nobodys_doing(tmp_path: Path) -> None:
    loads = [
        Load(WEB, MINUTE, 60 * MS, {SELF: 180 * MS}, stolen=3 * MS),
        Load(ETL, MINUTE, 6 * MS, {IDLE_CPU: 12 * MS, REST: 2 * MS}, stolen=None),
        Load(DB, MINUTE, 6 * MS, {UNKNOWN: 6 * MS}),
    ]
    found = reported(tmp_path, loads)
    web, etl, db = (spent(found)[name] for name in ("shop/web-1/app", "shop/batch-7/etl", "shop/db-1/db"))
    assert (web.cause, etl.cause, db.cause) == ("own-threads", "placement", "unknown")
    assert (web.ran_ns, web.stolen_ns) == (57_000 * MS, 3_000 * MS)
    assert (etl.ran_ns, etl.stolen_ns) == (6_000 * MS, None)
    assert [(holder.container, holder.wait_ns) for holder in etl.holders] == [(None, 2_000 * MS)]
    assert found.costs == []
    assert "shop/web-1/app had 3.0 tasks in the run queue on average, 3.0 behind its own threads" in found.headline[1]


def test_the_bursts_and_the_times_are_those_of_the_waiting(tmp_path: Path) -> None:
    times = range(300, 600)
    loads = [
        Load(WEB, [one for one in MINUTE if one not in times], 10 * MS, {}),
        Load(WEB, times, 10 * MS, {2: 20 * MS}),
        Load(ETL, times, 50 * MS, {1: 5 * MS}),
    ]
    # Within each window of those times, 20 ms in a row.
    starts = (START_NS + np.array(times) * WINDOW_NS)[:, None] + np.arange(20) * MS
    ticks = frame(
        TABLES["ticks"],
        starts.size,
        {
            "node_name": "node-1",
            **WEB,
            "tick_start": starts.ravel(),
            "tick": starts.ravel() // MS,
            "cpu": 3,
            "wait_time_ns": MS,
        },
    )
    found = reported(tmp_path, loads, ("ticks", ticks))
    web = spent(found)["shop/web-1/app"]
    assert web.bursts is not None
    assert (web.bursts.count, web.bursts.short_ms, web.bursts.long_ms) == (300, 20, 20)
    assert [(one.cpu, one.share) for one in web.cpus] == [(3, 1.0)]
    assert "in bursts of 20 ms, mostly 14:00:18–14:00:36" in found.headline[0]
    assert "of the time on CPU 3" in found.headline[0]


def test_throttling_that_nobody_told_is_waiting_for_an_idle_cpu_in_those_seconds(tmp_path: Path) -> None:
    pod = {"cgroup_id": 91, "cgroup_kind": "pod", "cgroup_path": "/kubepods/pod1"}
    loads = [Load(WEB, MINUTE, 10 * MS, {IDLE_CPU: 30 * MS}), Load(ETL, MINUTE, 10 * MS, {IDLE_CPU: 6 * MS})]
    # It is the pod's limit, in the first half.
    throttled = np.minimum(np.arange(61), 30)
    counters = resources(WEB), resources(ETL), resources(pod, cpu_nr_throttled=throttled)
    found = reported(tmp_path, loads, *counters, tells_throttled=False)
    web, etl = spent(found)["shop/web-1/app"], spent(found)["shop/batch-7/etl"]
    assert web.throttled_ns == pytest.approx(15_000 * MS, rel=0.01)
    assert web.throttled_ns + web.idle_ns == 30_000 * MS
    assert (web.throttling, etl.throttled_ns) == ("by-second", 0)
    assert [(cost.kind, cost.by) for cost in found.costs] == [("throttling", None)]
    assert "throttled by its own limit" in found.headline[0]
    assert "throttling-by-second" in {caveat.id for caveat in found.caveats}


def test_throttling_is_as_the_kernel_told_it(tmp_path: Path) -> None:
    loads = [
        Load(WEB, MINUTE, 10 * MS, {THROTTLED: 30 * MS, IDLE_CPU: 1 * MS, 2: 3 * MS}),
        Load(ETL, MINUTE, 45 * MS, {}),
    ]
    found = reported(tmp_path, loads, resources(WEB, cpu_nr_throttled=np.arange(61)))
    web = spent(found)["shop/web-1/app"]
    assert (web.throttled_ns, web.idle_ns, web.held_back_ns) == (30_000 * MS, 1_000 * MS, 3_000 * MS)
    assert (web.throttling, web.cause) == ("measured", "own-limit")
    assert [(cost.kind, cost.time_ns) for cost in found.costs] == [
        ("throttling", 30_000 * MS),
        ("waiting", 3_000 * MS),
    ]
    assert "50 % throttled by its own limit" in found.headline[0]
    assert not {"throttling-by-second", "throttling-unknown"} & {caveat.id for caveat in found.caveats}


@pytest.mark.parametrize(("nodes", "whose"), [(1, ""), (2, " on node-1")])
def test_the_root_cgroup_is_called_so_in_sentences(tmp_path: Path, nodes: int, whose: str) -> None:
    root = {"cgroup_id": 99, "cgroup_kind": "other", "cgroup_path": "/"}
    loads = [Load(root, MINUTE, 5 * MS, {1: 30 * MS}), Load(WEB, MINUTE, 30 * MS, {99: 2 * MS})]
    elsewhere = [("windows", windows_of(DB, MINUTE, node="node-2"))][: nodes - 1]
    headline = reported(tmp_path, loads, *elsewhere).headline[0]
    assert headline.startswith(f"The root cgroup{whose} lost 30.0 s (50 % of its time) to shop/web-1/app: ")


def test_cgroups_of_one_container_wait_for_themselves_and_late_rows_add_up(tmp_path: Path) -> None:
    again = WEB | {"cgroup_id": 11}
    loads = [
        Load(WEB, MINUTE, 20 * MS, {11: 10 * MS}),
        Load(WEB, MINUTE, 1 * MS, {2: 2 * MS}),
        Load(again, MINUTE, 20 * MS, {1: 10 * MS}),
        Load(ETL, MINUTE, 30 * MS, {}),
    ]
    web = spent(reported(tmp_path, loads))["shop/web-1/app"]
    assert (web.behind_self_ns, web.behind_others_ns, web.ran_ns) == (20_000 * MS, 2_000 * MS, 41_000 * MS)
    assert web.time_ns == 1000 * WINDOW_NS


def test_only_who_was_asked_for_and_its_part_of_the_time(tmp_path: Path) -> None:
    # It was there for 6 s only.
    loads = [Load(WEB, range(100, 200), 10 * MS, {2: 15 * MS}), Load(ETL, MINUTE, 45 * MS, {})]
    found = reported(tmp_path, loads, container="shop/web-1/app")
    assert list(spent(found)) == ["shop/web-1/app"]
    assert "25 % of the time" in found.headline[0]


def test_without_waits_nothing_is_said_of_them(tmp_path: Path) -> None:
    windows = [
        rows.with_columns(wait_time_ns=pl.lit(None, pl.Int64))
        for rows in tables_of([Load(WEB, MINUTE, MS, {})])["windows"]
    ]
    write_recording(tmp_path, windows=windows)
    found = report(open_recording([tmp_path]))
    assert (found.time_spent, found.costs) == ([], [])
    assert "cpu-pressure" in {one.kind for one in found.activity[0].other_explanations}


def test_a_node_without_waits_is_told_of_as_before(tmp_path: Path) -> None:
    write_recording(tmp_path / "one", **tables_of([Load(WEB, MINUTE, MS, {SELF: 10 * MS})]))
    pressed = resources(ETL, node="node-2", cpu_pressure_some_total_usec=np.arange(61) * 500_000)[1]
    rows = windows_of(ETL, MINUTE, node="node-2")
    write_recording(tmp_path / "two", node="node-2", windows=[rows], resources=[pressed])
    found = report(open_recording([tmp_path / "one", tmp_path / "two"]))
    assert [one.container.node_name for one in found.time_spent] == ["node-1"]
    assert found.headline[-1].startswith("shop/batch-7/etl on node-2 waited for a CPU in 50 % of the time")


def test_what_waits_tell_is_not_told_again_from_pressure(tmp_path: Path) -> None:
    pressed = resources(WEB, cpu_pressure_some_total_usec=np.arange(61) * 500_000)
    found = reported(tmp_path, [Load(WEB, MINUTE, MS, {SELF: 10 * MS})], pressed)
    kinds = {one.kind for one in found.activity[0].other_explanations}
    assert "memory-pressure" in kinds
    assert not kinds & {"cpu-pressure", "throttling"}
    assert found.activity[0].cpu_users == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from([1, 2, 3]),
            st.integers(0, 30),
            st.integers(0, 60 * MS),
            st.dictionaries(
                st.sampled_from([1, 2, 3, SELF, IDLE_CPU, REST, THROTTLED, UNKNOWN]), st.integers(1, 10**9), max_size=4
            ),
        ),
        min_size=3,
        max_size=12,
    )
)
def test_parts_make_the_whole(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    people = {1: WEB, 2: ETL, 3: DB}
    loads = [Load(who, range(0, 40, 39), 0, {}) for who in people.values()]
    for number, window, ran, behind in rows:
        others = {holder: ns for holder, ns in behind.items() if holder != number}
        loads.append(Load(people[number], range(window, window + 1), ran, others, stolen=ran // 3))
    found = reported(tmp_path_factory.mktemp("parts"), loads)
    for number, who in people.items():
        one = spent(found)[f"shop/{who['pod_name']}/{who['container_name']}"]
        own = [load for load in loads if load.who is who]
        assert one.ran_ns + (one.stolen_ns or 0) == sum(load.ran for load in own), number
        assert one.wait_ns == sum(ns for load in own for ns in load.behind.values())
        assert sum(holder.wait_ns for holder in one.holders) == one.behind_others_ns
        assert 0 <= one.held_back_ns <= one.behind_others_ns


def test_duckdb_adds_up_the_same(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    loads = []
    for number in range(0, 1000, 100):
        windows = range(number, number + 100)
        ran, waited = (int(amount) * MS for amount in random.integers(1, 30, 2))
        loads.append(Load(WEB, windows, ran, {2: waited, SELF: MS, IDLE_CPU: MS, REST: 2 * MS}))
        loads.append(Load(ETL, windows, 45 * MS, {1: ran, UNKNOWN: MS}, stolen=None))
        loads.append(Load(DB, windows, 3 * MS, {1: MS, 2: MS, THROTTLED: MS}))
    # With rows that came late, some containers more than one cgroup, and nobody's name for one.
    again = container(4, "app", "web-1")
    loads.append(Load(again, range(900, 950), 5 * MS, {1: MS}))
    loads.append(Load(WEB, range(10), 2 * MS, {2: MS}))
    write_recording(tmp_path, **tables_of(loads))
    plain, duckdb = open_recording([tmp_path]), open_named([str(tmp_path)], engine=get_engine("duckdb"))
    assert report(duckdb) == report(plain)
