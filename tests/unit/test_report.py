# SPDX-License-Identifier: Apache-2.0
"""The report on simulated runs, whose truth is known, and on recordings that are odd."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from recording_examples import START, windows_rows, write_rows

from tracer.analysis.findings import Report
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.errors import UsageError
from tracer.simulate import simulate

SECONDS = 20


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Makes each recording once: a scenario with ticks, or its windows alone."""
    made: dict[tuple[str, bool], Path] = {}

    def make(scenario: str, *, ticks: bool) -> Path:
        if (scenario, ticks) not in made:
            if ticks:
                output = tmp_path_factory.mktemp(scenario)
                simulate(scenario, seed=3, duration_ns=SECONDS * 10**9, output=output, ticks=True)
            else:
                output = tmp_path_factory.mktemp(scenario) / "windows-only"
                shutil.copytree(make(scenario, ticks=True), output, ignore=shutil.ignore_patterns("ticks"))
            made[scenario, ticks] = output
        return made[scenario, ticks]

    return make


def truth(output: Path) -> dict[tuple[str, str], dict[str, Any]]:
    (path,) = output.glob("runs/*/truth.json")
    victims = json.loads(path.read_bytes())["victims"]
    return {(victim["label"], one["label"]): one for victim in victims for one in victim["aggressors"]}


def report_on(*outputs: Path, **asked: Any) -> Report:
    return report(open_recording(outputs, **asked))


def caveat_ids(found: Report) -> set[str]:
    return {caveat.id for caveat in found.caveats}


@pytest.mark.parametrize("ticks", [True, False])
def test_a_planted_aggressor_comes_first_with_about_what_it_cost(simulated: Any, ticks: bool) -> None:
    output = simulated("cache-thrash", ticks=ticks)
    found = report_on(output)
    assert found.basis == ("ticks" if ticks else "windows")
    victim = found.victims[0]
    assert victim.container.name == "shop/web-1/app"
    assert [one.container.name for one in victim.aggressors] == ["jobs/batch-7/etl"]
    (aggressor,) = victim.aggressors
    true = truth(output)["shop/web-1/app", "jobs/batch-7/etl"]
    assert aggressor.lost_cycles.value == pytest.approx(true["lost_cycles"], rel=0.15)
    assert aggressor.lost_share.low < aggressor.lost_share.value < aggressor.lost_share.high
    assert aggressor.confidence > 0.99
    assert found.headline[0].startswith("shop/web-1/app lost ")
    assert "to jobs/batch-7/etl" in found.headline[0]
    assert victim.noisy_and_quiet is not None
    assert victim.noisy_and_quiet.ratio > 1.2
    assert {one.kind for one in victim.other_explanations} >= {"memory-pressure", "migration", "smt", "steal"}


def test_bursts_have_their_length_and_the_times_are_those_of_the_loss(simulated: Any) -> None:
    found = report_on(simulated("cache-thrash", ticks=True))
    (aggressor,) = found.victims[0].aggressors
    assert aggressor.bursts is not None
    assert 3 <= aggressor.bursts.short_ms < aggressor.bursts.median_ms < aggressor.bursts.long_ms <= 45
    # It has bursts from a tenth of the run to nine tenths.
    assert sum(one.share for one in aggressor.time_ranges) > 0.85
    assert aggressor.time_ranges[0].start >= found.start + timedelta(seconds=1)
    assert aggressor.time_ranges[-1].end <= found.end - timedelta(seconds=1)


def test_a_delay_of_a_few_ticks_is_found(simulated: Any) -> None:
    output = simulated("delayed", ticks=True)
    (aggressor,) = report_on(output).victims[0].aggressors
    true = truth(output)["shop/web-1/app", "jobs/batch-7/etl"]
    assert true["delay_ticks"] > 0
    assert aggressor.delay_ticks == true["delay_ticks"]
    # Nothing in a cache begins some ticks late: how much it is, is told less well.
    assert aggressor.lost_cycles.low < true["lost_cycles"] < aggressor.lost_cycles.high


@pytest.mark.parametrize("ticks", [True, False])
def test_two_aggressors_are_told_apart(simulated: Any, ticks: bool) -> None:
    output = simulated("two-aggressors", ticks=ticks)
    victim = next(one for one in report_on(output).victims if one.container.name == "shop/web-1/app")
    assert {one.container.name for one in victim.aggressors} == {"jobs/batch-7/etl", "jobs/batch-3/report"}
    for one in victim.aggressors:
        true = truth(output)["shop/web-1/app", one.container.name]
        assert one.lost_share.value == pytest.approx(true["lost_share"], rel=0.25)


@pytest.mark.parametrize("ticks", [True, False])
@pytest.mark.parametrize("scenario", ["quiet", "decoy"])
def test_nobody_is_blamed_where_nobody_harms(simulated: Any, scenario: str, ticks: bool) -> None:
    found = report_on(simulated(scenario, ticks=ticks))
    assert found.victims == []
    assert found.pairs_tested > 10
    assert any(line.startswith("No container lost more than ") for line in found.headline)


def test_throttling_is_said_and_nobody_blamed_for_it(simulated: Any) -> None:
    found = report_on(simulated("throttled", ticks=False))
    assert found.victims == []
    # By its own limit where waits tell, else by its CPU limit.
    assert any(re.match("shop/web-1/app .*throttled by its (own|CPU) limit", line) for line in found.headline)


def test_counters_that_counted_part_of_the_time_are_scaled_and_said(simulated: Any) -> None:
    output = simulated("lost-counters", ticks=True)
    found = report_on(output)
    assert "coverage" in caveat_ids(found)
    true = truth(output)["shop/web-1/app", "jobs/batch-7/etl"]
    assert found.victims[0].aggressors[0].lost_share.value == pytest.approx(true["lost_share"], rel=0.2)


def test_only_wanted_victims_are_listed_and_all_are_suspects(simulated: Any) -> None:
    output = simulated("cache-thrash", ticks=False)
    found = report_on(output, container="shop/web-1/app")
    assert [victim.container.name for victim in found.victims] == ["shop/web-1/app"]
    assert found.victims[0].aggressors[0].container.name == "jobs/batch-7/etl"
    assert [one.container.name for one in found.activity] == ["shop/web-1/app"]
    for asked, said in (
        ({"container": "nobody"}, "no container is called 'nobody'; there are shop/"),
        ({"namespace": "nowhere"}, "nothing of namespace 'nowhere' was recorded then; there are jobs, shop"),
        ({"namespace": "jobs", "container": "web-1"}, "none of web-1 is in namespace 'jobs'"),
    ):
        with pytest.raises(UsageError, match=said):
            report_on(output, **asked)


def test_a_part_of_the_time(simulated: Any) -> None:
    output = simulated("cache-thrash", ticks=True)
    whole = open_recording([output]).span
    found = report_on(output, since=whole.start + timedelta(seconds=6), until=whole.end - timedelta(seconds=6))
    assert found.victims[0].aggressors[0].container.name == "jobs/batch-7/etl"
    assert found.end - found.start < timedelta(seconds=9)
    # Before the first burst there is nothing to find.
    assert report_on(output, until=whole.start + timedelta(seconds=1.9)).victims == []


def test_long_ticks_are_read_in_segments_with_the_same_result(simulated: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    output = simulated("cache-thrash", ticks=True)
    at_once = report_on(output).victims[0].aggressors[0].lost_share.value
    monkeypatch.setattr("tracer.analysis.interference.tick_rows._SEGMENT_ROWS", 50_000)
    in_parts = report_on(output).victims[0].aggressors[0]
    assert in_parts.container.name == "jobs/batch-7/etl"
    assert in_parts.lost_share.value == pytest.approx(at_once, rel=0.05)


def test_many_windows_are_read_in_segments_with_the_same_result(
    simulated: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = simulated("cache-thrash", ticks=False)
    at_once = report_on(output).victims[0].aggressors[0].lost_share.value
    monkeypatch.setattr("tracer.analysis.interference.window_rows._READ_CELLS", 2_000)
    assert report_on(output).victims[0].aggressors[0].lost_share.value == pytest.approx(at_once, rel=0.1)


def test_three_nodes_are_looked_at_each_by_itself(tmp_path: Path) -> None:
    for number, scenario in enumerate(("cache-thrash", "quiet", "quiet")):
        name = f"node-{number}"
        simulate(scenario, seed=3, duration_ns=SECONDS * 10**9, output=tmp_path, node_name=name)
    found = report_on(tmp_path)
    assert found.nodes == ["node-0", "node-1", "node-2"]
    assert {victim.container.node_name for victim in found.victims} == {"node-0"}
    assert found.headline[0].startswith("shop/web-1/app on node-0 lost ")


def test_it_is_the_same_from_json(simulated: Any) -> None:
    found = report_on(simulated("cache-thrash", ticks=False))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found


def test_progress_is_told_to_its_end(simulated: Any) -> None:
    told: list[tuple[int, int]] = []
    report(
        open_recording([simulated("quiet", ticks=False)]),
        progress=lambda _what, done, steps: told.append((done, steps)),
    )
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_without_counters_it_says_what_it_cannot_know(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", [*windows_rows(600), *windows_rows(600, cgroup_id=8, cgroup_kind="unit")])
    resources = [
        {
            "time": START + timedelta(seconds=second),
            "cgroup_id": 7,
            "cpu_nr_periods": 10 * second,
            "cpu_nr_throttled": 4 * second,
            "cpu_pressure_some_total_usec": 500_000 * second,
        }
        for second in range(36)
    ]
    # The root's pressure is that of the whole node.
    root = [{**row, "cgroup_id": 1, "cgroup_path": "/"} for row in resources]
    write_rows(tmp_path, "windows", windows_rows(600, cgroup_id=1, cgroup_kind="other", cgroup_path="/"))
    write_rows(tmp_path, "resources", [*resources, *root])
    found = report_on(tmp_path)
    assert found.basis == "cpu-time"
    assert not [line for line in found.headline if line.startswith("/ ")]
    assert found.victims == []
    assert "cannot be told" in found.headline[0]
    assert "cgroup 7 was throttled by its CPU limit in 40 % of the periods." in found.headline
    assert any(line.startswith("cgroup 7 waited for a CPU in 50 % of the time (PSI); ") for line in found.headline)
    assert {"no-cycles", "no-instructions", "no-llc-counter", "no-manifest"} <= caveat_ids(found)


def test_who_had_the_cpus_while_somebody_waited(tmp_path: Path) -> None:
    """One neighbour was busy while it waited, another one before and after."""
    is_then = [10 <= 0.06 * number < 20 for number in range(600)]
    much, little = 5 * 10**7, 10**6
    for cgroup_id, times in (
        (7, [10**7] * 600),
        (8, [much if then else little for then in is_then]),
        (9, [little if then else much for then in is_then]),
    ):
        rows = windows_rows(600, cgroup_id=cgroup_id)
        write_rows(
            tmp_path, "windows", [row | {"cpu_time_ns": time_ns} for row, time_ns in zip(rows, times, strict=True)]
        )
    waited = [900_000 * min(max(second - 10, 0), 10) for second in range(36)]
    rows = [
        {"time": START + timedelta(seconds=second), "cgroup_id": 7, "cpu_pressure_some_total_usec": usec}
        for second, usec in enumerate(waited)
    ]
    write_rows(tmp_path, "resources", rows)
    found = report_on(tmp_path)
    users = {one.container.name: {user.container.name: user for user in one.cpu_users} for one in found.activity}
    assert {name: set(users) for name, users in users.items()} == {
        "cgroup 7": {"cgroup 8", "cgroup 7"},
        "cgroup 8": set(),
        "cgroup 9": set(),
    }
    assert users["cgroup 7"]["cgroup 8"].share_of_node == pytest.approx(50 / 61, abs=0.01)
    assert (
        "cgroup 7 waited for a CPU in 26 % of the time (PSI); of the node's CPU time then: cgroup 8 82 %, itself 16 %."
        in found.headline
    )


def test_a_sentence_about_the_root_cgroup_begins_as_one(tmp_path: Path) -> None:
    waited = {"wait_time_ns": 10**8, "wait_behind_self_ns": 10**8, "wait_behind_others_ns": 0, "wait_idle_ns": 0}
    root = {"cgroup_id": 1, "cgroup_kind": "other", "cgroup_path": "/"}
    write_rows(tmp_path, "windows", windows_rows(100, **root, **waited, waits=5, wait_throttled_ns=0))
    assert any(line.startswith("The root cgroup had ") for line in report_on(tmp_path).headline)


def test_one_row_is_too_little_and_says_so(tmp_path: Path) -> None:
    write_rows(tmp_path, "windows", windows_rows(1, cycles=3, instructions=2, llc_misses=1))
    found = report_on(tmp_path)
    assert found.victims == []
    assert "cannot be told" in found.headline[0]
    assert {"too-little-data", "no-neighbours"} <= caveat_ids(found)


def test_without_windows_nothing_can_be_told(tmp_path: Path) -> None:
    write_rows(tmp_path, "resources", [{"time": START + timedelta(seconds=second)} for second in range(3)])
    assert report_on(tmp_path).headline == ["Nothing can be told: no windows are recorded."]


def test_rows_that_are_all_zero_do_no_harm(tmp_path: Path) -> None:
    for number in (7, 8):
        write_rows(tmp_path, "windows", windows_rows(900, cgroup_id=number, cycles=0, instructions=0, llc_misses=0))
    found = report_on(tmp_path)
    assert found.victims == []
    assert [one.cpi for one in found.activity] == [None, None]


def test_gaps_lost_records_and_runs_that_died_are_said(simulated: Any, tmp_path: Path) -> None:
    output = tmp_path / "gappy"
    shutil.copytree(simulated("cache-thrash", ticks=False), output)
    later = {"node_name": "simulated", "time": START, "records": 900, "lost_ring_full": 100}
    write_rows(output, "health", [later], node_name="simulated")
    write_rows(output, "windows", windows_rows(30), node_name="simulated")
    (path,) = output.glob("runs/*/session.json")
    path.write_bytes(path.read_bytes().replace(b'"status": "finished"', b'"status": "running"'))
    found = report_on(output)
    assert {"gap", "loss", "unfinished-run"} <= caveat_ids(found)
    # What was recorded is still found.
    assert found.victims[0].aggressors[0].container.name == "jobs/batch-7/etl"


def test_a_clock_that_was_set_back_is_said(tmp_path: Path) -> None:
    simulate("quiet", seed=1, duration_ns=5 * 10**9, output=tmp_path)
    (path,) = tmp_path.glob("runs/*/session.json")
    manifest = json.loads(path.read_bytes())
    anchor = manifest["clock"]["start"]
    forward = {"after_monotonic_ns": 1, "step_ns": 10**9, "anchor": anchor}
    back = {"after_monotonic_ns": 2, "step_ns": -1_500_000_000, "anchor": anchor}
    manifest["clock"]["steps"] = [forward, back]
    path.write_text(json.dumps(manifest))
    (caveat,) = (caveat for caveat in report_on(tmp_path).caveats if caveat.id == "clock-set-back")
    assert caveat.text.startswith("the clock of simulated was set back by 1.500 s, to 20")


def test_runs_with_ticks_of_different_length_are_refused(tmp_path: Path) -> None:
    simulate("quiet", seed=1, duration_ns=5 * 10**9, output=tmp_path)
    simulate("quiet", seed=2, duration_ns=5 * 10**9, output=tmp_path)
    path = sorted(tmp_path.glob("runs/*/session.json"))[0]
    path.write_bytes(path.read_bytes().replace(b'"tick_ns": 1000000', b'"tick_ns": 2000000'))
    with pytest.raises(UsageError, match=r"ticks and windows of different length .*--since"):
        report_on(tmp_path)


def test_runs_of_an_older_version_without_some_columns_are_read_with_the_others(tmp_path: Path) -> None:
    first = datetime(2026, 1, 5, 14, tzinfo=UTC)
    simulate("cache-thrash", seed=3, duration_ns=SECONDS * 10**9, output=tmp_path, start=first)
    (old,) = tmp_path.glob("windows/*/*/*.parquet")
    rows = pq.read_table(old, partitioning=None)
    pq.write_table(rows.drop_columns(["counter_coverage", "cpi_median", "neighbour_llc_misses"]), old)
    # Who missed what is not known there: so nobody is blamed for that time, and it is no failure.
    assert report_on(tmp_path).victims == []
    later = first + timedelta(minutes=5)
    simulate("cache-thrash", seed=3, duration_ns=SECONDS * 10**9, output=tmp_path, start=later)
    found = report_on(tmp_path)
    assert found.victims[0].aggressors[0].container.name == "jobs/batch-7/etl"
    assert found.victims[0].aggressors[0].time_ranges[0].start > later
