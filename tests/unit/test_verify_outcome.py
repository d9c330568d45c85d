# SPDX-License-Identifier: Apache-2.0
"""`tracer verify`: from windows to slots, from slots to a verdict, and from that to a few lines."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from json_answers import answer_of

from tracer.cli.verify_text import print_outcome
from tracer.containers.census import CountedCgroup
from tracer.containers.identity import identify
from tracer.experiment.judging import Measured, judge, measure
from tracer.experiment.naming import Place
from tracer.experiment.outcome import Effect, Interval, Outcome, Side
from tracer.experiment.schedule import Schedule, draw_schedule

MS = 1_000_000
BLOCKS = 40


def place(path: str) -> Place:
    return Place(CountedCgroup(7, path, 1, identify(path), "path", 1, None), "shop/web-1/app", Path(path))


class FakeRecording:
    """Windows that were never in a file."""

    def __init__(self, windows: pl.DataFrame) -> None:
        self._windows = windows

    def scan(self, table: str) -> pl.LazyFrame:
        assert table == "windows"
        return self._windows.lazy()

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        return rows.collect()


def a_schedule() -> Schedule:
    return draw_schedule(
        duration_ns=BLOCKS * 500 * MS, pulse_ns=50 * MS, duty=0.1, tick_ns=MS, generator=np.random.default_rng(1)
    )


def windows(schedule: Schedule, start_ns: int, path: str, **values: Any) -> pl.DataFrame:
    """A row for each window of the schedule."""
    number = np.arange(2 * schedule.blocks * schedule.half_windows)
    columns = {"cpu_time_ns": 0, "wait_time_ns": 0, "cycles": None, "instructions": None} | values
    return pl.DataFrame(
        {
            "window_tick": (start_ns + number * schedule.window_ns) // MS,
            "cgroup_path": [path] * len(number),
            **{
                name: pl.Series(value if isinstance(value, np.ndarray) else [value] * len(number), dtype=pl.UInt64)
                for name, value in columns.items()
            },
        }
    )


def test_slots_have_the_sums_of_the_cgroup_and_of_all_below_it() -> None:
    schedule, start_ns = a_schedule(), 12_340 * MS
    number = np.arange(2 * schedule.blocks * schedule.half_windows)
    rows = pl.concat(
        [
            windows(schedule, start_ns, "/a", cpu_time_ns=number, wait_time_ns=5, cycles=3, instructions=2),
            windows(schedule, start_ns, "/a/b", cpu_time_ns=1000, cycles=10),
            windows(schedule, start_ns, "/ab", cpu_time_ns=10**9, wait_time_ns=10**9),
            # What came late stands in a row of its own; what was before and after is nobody's.
            windows(schedule, start_ns, "/a", wait_time_ns=7)[::2],
            windows(schedule, start_ns - schedule.duration_ns, "/a", cpu_time_ns=10**9),
            windows(schedule, start_ns + schedule.duration_ns, "/a", cpu_time_ns=10**9),
        ]
    )
    found = measure(FakeRecording(rows), place("/a"), schedule, 30, start_ns=start_ns, tick_ns=MS)  # type: ignore[arg-type]
    assert found.has_counters
    assert found.slot_ns == 40 * MS
    for sums, looked_at in zip((found.paused, found.other), schedule.measured(30), strict=True):
        assert looked_at.shape == (30, 4)
        assert sums["cpu_time_ns"].tolist() == (looked_at.sum(axis=1) + 4000).tolist()
        assert sums["wait_time_ns"].tolist() == ((looked_at % 2 == 0).sum(axis=1) * 7 + 20).tolist()
        # Cycles without instructions are no part of any ratio.
        assert sums["cycles"].tolist() == [12.0] * 30
        assert sums["instructions"].tolist() == [8.0] * 30


def test_who_was_not_there_has_sums_of_nothing() -> None:
    schedule = a_schedule()
    rows = windows(schedule, 0, "/b", cpu_time_ns=5)
    found = measure(FakeRecording(rows), place("/a"), schedule, 30, start_ns=0, tick_ns=MS)  # type: ignore[arg-type]
    assert not found.has_counters
    assert found.other["cpu_time_ns"].tolist() == [0.0] * 30


def measured(
    *, ran: float = 1e7, waited: tuple[float, float] = (0, 0), cpi: tuple[float, float] | None = None, blocks: int = 60,
    ran_paused: float | None = None, seed: int = 0,
) -> Measured:  # fmt: skip
    """Slots of 40 ms; pairs are of pauses and of the others."""
    generator = np.random.default_rng(seed)

    def sums(kind: int, ran: float) -> dict[str, Any]:
        noise = generator.normal(1, 0.1, (3, blocks))
        instructions = ran * noise[2]
        return {
            "cpu_time_ns": ran * noise[0],
            "wait_time_ns": waited[kind] * noise[1],
            "instructions": instructions,
            "cycles": instructions * ((cpi or (0, 0))[kind] + generator.normal(0, 0.02, blocks)),
        }

    return Measured(sums(0, ran if ran_paused is None else ran_paused), sums(1, ran), cpi is not None, 40 * MS)


SUSPECT = measured(ran=2e7, ran_paused=1e4)


def effects(victim: Measured, suspect: Measured = SUSPECT) -> tuple[dict[str, Effect], float]:
    found, confidence = judge(victim, suspect, no_counters="no PMU", generator=np.random.default_rng(3))
    return {effect.kind: effect for effect in found}, confidence


def test_both_effects_have_their_verdicts() -> None:
    found, confidence = effects(measured(waited=(0.1e7, 1e7), cpi=(1.5, 1.5)))
    assert confidence == pytest.approx(0.975)
    assert (found["waiting"].verdict, found["cpi"].verdict) == ("proved", "refuted")
    share = found["waiting"].share
    assert share is not None
    assert share.value == pytest.approx(0.45, abs=0.03)
    found, _confidence = effects(measured(waited=(1e5, 1e5), cpi=(1.5, 2.0)))
    assert (found["waiting"].verdict, found["cpi"].verdict) == ("refuted", "proved")
    assert found["cpi"].share is not None
    assert found["cpi"].share.value == pytest.approx(0.25, abs=0.02)


def test_without_counters_nothing_is_said_of_caches() -> None:
    found, confidence = effects(measured(waited=(0.1e7, 1e7)))
    assert confidence == pytest.approx(0.95)
    assert (found["cpi"].verdict, found["cpi"].reason) == ("unknown", "no PMU")
    assert found["cpi"].share is None


def test_what_is_next_to_nothing_is_no_culprit_however_sure() -> None:
    found, _confidence = effects(measured(cpi=(1.500, 1.506), blocks=2000))
    share = found["cpi"].share
    assert share is not None
    assert share.low is not None
    assert 0 < share.low < share.value < 0.01
    assert found["cpi"].verdict == "refuted"


def test_too_wide_an_interval_is_no_all_clear() -> None:
    found, _confidence = effects(measured(waited=(1e8, 1e8), blocks=10))
    assert found["waiting"].verdict == "unknown"
    assert "a longer --duration tells more" in (found["waiting"].reason or "")


@pytest.mark.parametrize(
    ("victim", "suspect", "why"),
    [
        (measured(waited=(0, 1e7)), measured(ran=1e4), "hardly ran"),
        (measured(waited=(0, 1e7)), measured(ran=2e7), "ran in the pauses as well"),
        (measured(waited=(0, 1e7), blocks=7), measured(ran=2e7, ran_paused=0, blocks=7), "only 7 pauses"),
        (measured(waited=(0, 1e7), blocks=0), measured(blocks=0), "did not run"),
        (measured(ran=0, waited=(0, 1e7)), SUSPECT, "the victim did not run"),
    ],
)
def test_what_can_show_nothing_says_why(victim: Measured, suspect: Measured, why: str) -> None:
    found, _confidence = effects(victim, suspect)
    assert found["waiting"].verdict == "unknown"
    assert why in (found["waiting"].reason or "")


def an_outcome(*effects: Effect, **changed: Any) -> Outcome:
    outcome = Outcome(
        victim=Side(name="shop/web-1/app", cgroup_path="/w", cpus_paused=1.0, cpus_otherwise=0.5),
        suspect=Side(name="jobs/batch-7/etl", cgroup_path="/b", cpus_paused=0.001, cpus_otherwise=0.5),
        control="cpu.max",
        pauses=60,
        pauses_planned=60,
        pulse_seconds=0.05,
        block_seconds=0.5,
        ended_early=None,
        latest_pause_ms=0.2,
        confidence=0.975,
        seed=1,
        effects=list(effects),
        notes=[],
    )
    return msgspec.structs.replace(outcome, **changed)


def an_effect(kind: Any, verdict: Any, value: float, low: float | None, high: float | None) -> Effect:
    interval = Interval(value=value, low=low, high=high)
    reason = "it was too short" if verdict == "unknown" else None
    return Effect(
        kind=kind, verdict=verdict, reason=reason, paused=0.02, otherwise=1.02, difference=interval, share=interval,
        p_value=0.001,
    )  # fmt: skip


def said(capsys: pytest.CaptureFixture[str], outcome: Outcome) -> str:
    print_outcome(outcome, as_json=False)
    text = capsys.readouterr().out
    return " ".join(text.split())


def test_the_text_has_verdicts_and_figures(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = said(
        capsys,
        an_outcome(
            an_effect("waiting", "proved", 0.5, 0.45, 0.55),
            an_effect("cpi", "refuted", 0.001, -0.01, 0.012),
            pauses=50,
            ended_early="the suspect has ended",
            notes=["a pause was late"],
        ),
    )
    assert (
        "Proved: shop/web-1/app waits for CPUs because of jobs/batch-7/etl, 50 % of its time (CI 45.0 to 55.0 %)."
        in text
    )
    assert (
        "Refuted: jobs/batch-7/etl costs shop/web-1/app no cycles; no effect of more than 1.2 % of its cycles" in text
    )
    assert "run-queue wait / CPU time 0.02 1.02 0.5 0.45 to 0.55 50 %" in text
    assert "60 were planned: the suspect has ended." in text
    assert "PAUSED ELSE DIFFERENCE CI 97.5 % OF ALL" in text
    assert "Note: a pause was late." in text


def test_the_text_says_what_cannot_be_told_and_what_is_the_other_way_round(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(
        capsys,
        an_outcome(an_effect("waiting", "unknown", 0.1, None, None), an_effect("cpi", "refuted", -0.2, -0.3, -0.1)),
    )
    assert (
        "Cannot be told: whether shop/web-1/app waits for CPUs because of jobs/batch-7/etl. It was too short." in text
    )
    assert "? to ?" in text
    assert "With it paused it is worse, by 20 % of its cycles." in text


def test_the_json_is_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = an_outcome(an_effect("waiting", "proved", 0.5, 0.45, None))
    print_outcome(outcome, as_json=True)
    assert msgspec.convert(answer_of("verify", capsys.readouterr().out), Outcome) == outcome


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--by", "magic"], "--by: no value 'magic'; there are auto, throttle, freeze"),
        (["--force", "b"], "--force must repeat the name of the suspect, 'nobody-2'"),
        (["--duty", "50"], "--duty must be between 1 and 25 (per cent)"),
        (["--pulse", "soon"], "--pulse: not a duration: 'soon'"),
        ([], "no container is called 'nobody-1'; there "),
    ],
)
def test_mistakes_are_a_line_and_exit_2(arguments: list[str], why: str) -> None:
    command = [sys.executable, "-m", "tracer.cli.main", "verify", "nobody-1", "nobody-2", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, COLUMNS="80"))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(f"tracer: error: {why}")
    assert ended.stderr.count("\n") == 1
