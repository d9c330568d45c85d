# SPDX-License-Identifier: Apache-2.0
"""The report on the physical machine, in which no formula says how much anybody harms anybody: what each kind of answer
is worth. How often which is right, `bench/interference.py` says.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tracer.analysis.findings import Report
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.simulate import simulate

SECONDS = 12


class Recorded:
    """A run with its truth, and the report on it."""

    def __init__(self, scenario: str, seed: int, output: Path) -> None:
        simulate(
            scenario,
            machine="physical",
            seed=seed,
            duration_ns=SECONDS * 10**9,
            output=output,
            ticks=True,
            containers=6,
        )
        self.output = output
        (path,) = output.glob("runs/*/truth.json")
        truth: dict[str, Any] = json.loads(path.read_bytes())
        self.lost = {
            (victim["label"], one["label"]): one["lost_share"]
            for victim in truth["victims"]
            for one in victim["aggressors"]
        }
        self.found = report(open_recording([output]))

    def named(self, found: Report | None = None) -> dict[tuple[str, str], Any]:
        return {
            (victim.container.name, one.container.name): one.lost_share
            for victim in (found or self.found).victims
            for one in victim.aggressors
        }

    def untold(self, found: Report | None = None) -> set[tuple[str, str]]:
        return {
            (untold.container.name, suspect.name)
            for untold in (found or self.found).untold
            for suspect in untold.suspects
        }


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made: dict[tuple[str, int], Recorded] = {}

    def make(scenario: str, seed: int) -> Recorded:
        if (scenario, seed) not in made:
            made[scenario, seed] = Recorded(scenario, seed, tmp_path_factory.mktemp(scenario))
        return made[scenario, seed]

    return make


def test_harm_that_mostly_comes_after_a_burst_is_found_with_its_size(recorded: Any) -> None:
    run = recorded("cache-bursts", 2)
    pair = "shop/shop-0/app", "jobs/batch-7/job"
    share = run.named()[pair]
    assert run.lost[pair] > 0.08
    assert share.value == pytest.approx(run.lost[pair], rel=0.25)
    assert share.low < run.lost[pair] < share.high


@pytest.mark.parametrize(("scenario", "seed"), [("cache-bursts", 2), ("decoy", 1), ("quiet", 1), ("always-there", 1)])
def test_nobody_is_named_who_cost_next_to_nothing(recorded: Any, scenario: str, seed: int) -> None:
    run = recorded(scenario, seed)
    assert run.named()
    for pair in run.named():
        assert run.lost.get(pair, 0.0) > 0.02, pair


def test_what_a_sibling_takes_is_told_of_who_misses_nothing(recorded: Any) -> None:
    run = recorded("quiet", 1)
    pair = "shop/api-1/app", "shop/auth-1/app"
    assert run.named()[pair].value == pytest.approx(run.lost[pair], rel=0.25)


def test_a_job_that_never_stops_cannot_be_told_and_that_is_said(recorded: Any) -> None:
    run = recorded("always-there", 1)
    large = [pair for pair, share in run.lost.items() if share > 0.1 and pair[1] == "jobs/batch-7/job"]
    assert len(large) > 2
    for pair in large:
        assert pair in run.named() or pair in run.untold()
    assert any(line.startswith("Of ") and "cannot be told whether" in line for line in run.found.headline)


def test_jobs_that_act_at_the_same_times_are_named_together(recorded: Any) -> None:
    run = recorded("two-at-once", 3)
    joint = next(one for one in run.found.joint if one.victim.name == "shop/shop-0/app")
    assert {one.name for one in joint.aggressors} == {"jobs/batch-7/job", "jobs/batch-3/job"}
    assert joint.lost_share.low < joint.lost_share.value < joint.lost_share.high
    assert not {pair for pair in run.named() if pair[0] == "shop/shop-0/app" and pair[1].startswith("batch")}
    assert any("together: they act at the same times" in line for line in run.found.headline)


def test_an_all_clear_says_what_would_have_been_found(recorded: Any) -> None:
    run = recorded("quiet", 1)
    assert run.found.detectable_share is not None
    assert 0 < run.found.detectable_share < 0.1
    unseen = {pair: share for pair, share in run.lost.items() if pair not in run.named() and pair not in run.untold()}
    assert max(unseen.values()) <= run.found.detectable_share


def test_windows_say_what_they_cannot_tell(recorded: Any, tmp_path: Path) -> None:
    run = recorded("always-there", 1)
    output = tmp_path / "windows-only"
    shutil.copytree(run.output, output, ignore=shutil.ignore_patterns("ticks"))
    found = report(open_recording([output]))
    assert found.basis == "windows"
    for pair, share in run.lost.items():
        if share > 0.1:
            assert pair in run.named(found) or pair in run.untold(found), pair
