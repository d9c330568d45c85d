# SPDX-License-Identifier: Apache-2.0
"""How well the report finds what was planted in simulated runs, from ticks and from windows alone.

    python bench/analysis.py [SEEDS [SECONDS]]

Each scenario is simulated with each seed, and the report is held to the truth: whether the planted aggressor comes
first for each victim that lost at least 10 % to it (of those that had 1 % of the node's cycles), how far the lost
cycles are from the true ones, whether the interval holds them, whether a delay is found, and whether anybody is blamed
who cost next to nothing. Beside it, what CPI2 (Zhang et al., EuroSys 2013) would say: it blames whose CPU time has a
correlation of 0.35 or more with the victim's CPI; it has no figure for the loss. Exits with 1 if a mark is missed.
"""

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _common import print_machine, print_mark

from tracer.analysis.labels import container_label
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.simulate import CACHE_SCENARIOS, simulate

# What is to be found, what is nothing, and how near an estimate has to be.
LARGE_SHARE = 0.10
VISIBLE_SHARE = 0.01
NEXT_TO_NOTHING = 0.01
NEAR = 0.15
SCENARIOS = (*CACHE_SCENARIOS, "throttled")
HARMLESS = ("quiet", "decoy", "throttled")
CPI2_CORRELATION = 0.35


@dataclass
class Tally:
    """Of one scenario, one way of looking, all seeds."""

    runs: int = 0
    blaming_runs: int = 0
    wrong_pairs: int = 0
    large: int = 0
    first: int = 0
    errors: list[float] = field(default_factory=list)
    held: int = 0
    delays: int = 0
    delays_found: int = 0

    def row(self, scenario: str, basis: str) -> str:
        cells = [f"{scenario:<16}{basis:<9}{self.runs:>5}{self.blaming_runs:>9}{self.wrong_pairs:>7}{self.large:>7}"]
        if self.large:
            cells.append(f"{self.first / self.large:>8.0%}")
        if self.errors:
            near = sum(error <= NEAR for error in self.errors) / len(self.errors)
            cells.append(f"{statistics.median(self.errors):>8.1%}{max(self.errors):>8.1%}{near:>8.0%}")
            cells.append(f"{self.held / len(self.errors):>8.0%}")
        if self.delays:
            cells.append(f"{self.delays_found / self.delays:>8.0%}")
        return "".join(cells)


def true_losses(output: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """By victim and aggressor; `is_visible` says whether the victim had enough of the node's cycles."""
    (path,) = output.glob("runs/*/truth.json")
    truth = json.loads(path.read_bytes())
    cycles = sum(container["cycles"] for container in truth["containers"])
    return {
        (victim["label"], aggressor["label"]): {
            **aggressor,
            "is_visible": victim["cycles"] >= VISIBLE_SHARE * cycles,
        }
        for victim in truth["victims"]
        for aggressor in victim["aggressors"]
    }


def judge(tally: Tally, output: Path, scenario: str) -> None:
    """Holds the report on `output` to its truth."""
    truth = true_losses(output)
    found = {victim.container.name: victim for victim in report(open_recording([output])).victims}
    tally.runs += 1
    tally.blaming_runs += bool(found)
    tally.wrong_pairs += sum(
        truth.get((name, aggressor.container.name), {"lost_share": 0.0})["lost_share"] < NEXT_TO_NOTHING
        for name, victim in found.items()
        for aggressor in victim.aggressors
    )
    if scenario in HARMLESS:
        return
    for victim, largest in largest_losses(truth):
        tally.large += 1
        listed = found[victim].aggressors if victim in found else []
        tally.first += bool(listed) and listed[0].container.name == largest
        for aggressor in listed:
            true = truth.get((victim, aggressor.container.name))
            if true is None or not true["planted"] or true["lost_share"] < LARGE_SHARE:
                continue
            tally.errors.append(abs(aggressor.lost_cycles.value / true["lost_cycles"] - 1))
            tally.held += aggressor.lost_share.low <= true["lost_share"] <= aggressor.lost_share.high
            if true["delay_ticks"] and aggressor.delay_ticks is not None:
                tally.delays += 1
                tally.delays_found += aggressor.delay_ticks == true["delay_ticks"]


def largest_losses(truth: dict[tuple[str, str], dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Each victim that lost much to a planted aggressor, and the one it lost most to."""
    largest: dict[str, tuple[float, str]] = {}
    for (victim, aggressor), true in truth.items():
        if true["planted"] and true["is_visible"] and true["lost_share"] >= LARGE_SHARE:
            largest[victim] = max(largest.get(victim, (0.0, "")), (true["lost_share"], aggressor))
    for victim, (_share, aggressor) in largest.items():
        yield victim, aggressor


def judge_cpi2(tally: Tally, output: Path, scenario: str) -> None:
    """What CPI2 would say of the same windows."""
    truth = true_losses(output)
    recording = open_recording([output])
    rows = recording.collect(
        recording.scan("windows")
        .filter(pl.col("cgroup_id") != 0)
        .group_by("window_start", container_label().alias("name"))
        .agg(pl.sum("cpu_time_ns"), pl.sum("cycles"), pl.sum("instructions"))
    )
    cpi = rows.pivot("name", index="window_start", values="cycles").sort("window_start").drop("window_start")
    instructions = rows.pivot("name", index="window_start", values="instructions").sort("window_start")
    times = rows.pivot("name", index="window_start", values="cpu_time_ns").sort("window_start")
    found: dict[str, list[tuple[float, str]]] = {}
    for victim in cpi.columns:
        with np.errstate(all="ignore"):
            of_victim = cpi[victim].cast(pl.Float64).to_numpy() / instructions[victim].cast(pl.Float64).to_numpy()
        use = np.isfinite(of_victim)
        for suspect in cpi.columns:
            of_suspect = times[suspect].cast(pl.Float64).fill_null(0).to_numpy()
            if suspect == victim or use.sum() < 100 or not of_suspect[use].std():
                continue
            correlation = float(np.corrcoef(of_victim[use], of_suspect[use])[0, 1])
            if correlation >= CPI2_CORRELATION:
                found.setdefault(victim, []).append((correlation, suspect))
    tally.runs += 1
    tally.blaming_runs += bool(found)
    tally.wrong_pairs += sum(
        truth.get((victim, suspect), {"lost_share": 0.0})["lost_share"] < NEXT_TO_NOTHING
        for victim, suspects in found.items()
        for _correlation, suspect in suspects
    )
    if scenario not in HARMLESS:
        for victim, largest in largest_losses(truth):
            tally.large += 1
            tally.first += victim in found and max(found[victim])[1] == largest


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    print_machine()
    print(f"{seeds} seeds of {seconds} s; LARGE: victims that lost {LARGE_SHARE:.0%} or more to a planted aggressor\n")
    print(
        f"{'SCENARIO':<16}{'FROM':<9}{'RUNS':>5}{'BLAMING':>9}{'WRONG':>7}{'LARGE':>7}{'FIRST':>8}"
        f"{'ERROR':>8}{'WORST':>8}{'NEAR':>8}{'IN CI':>8}{'DELAY':>8}"
    )
    tallies: dict[tuple[str, str], Tally] = {}
    with tempfile.TemporaryDirectory(prefix="tracer-bench-") as scratch:
        for scenario in SCENARIOS:
            of_bases = {basis: tallies.setdefault((scenario, basis), Tally()) for basis in ("ticks", "windows", "CPI2")}
            for seed in range(1, seeds + 1):
                output = Path(scratch) / f"{scenario}-{seed}"
                simulate(scenario, seed=seed, duration_ns=seconds * 10**9, output=output, ticks=True)
                judge(of_bases["ticks"], output, scenario)
                shutil.rmtree(output / "ticks")
                judge(of_bases["windows"], output, scenario)
                judge_cpi2(of_bases["CPI2"], output, scenario)
                shutil.rmtree(output)
            for basis, tally in of_bases.items():
                print(tally.row(scenario, basis), flush=True)
    print()
    met = [marks_met(tallies, basis) for basis in ("ticks", "windows")]
    sys.exit(not all(met))


def marks_met(tallies: dict[tuple[str, str], Tally], basis: str) -> bool:
    """Prints the verdicts; false if one is missed."""
    planted = [tally for (scenario, of), tally in tallies.items() if of == basis and scenario not in HARMLESS]
    harmless = [tally for (scenario, of), tally in tallies.items() if of == basis and scenario in HARMLESS]
    errors = [error for tally in planted for error in tally.errors]
    verdicts = {
        f"{basis}: planted aggressor comes first": (sum(t.first for t in planted) / sum(t.large for t in planted), 1.0),
        f"{basis}: lost cycles within {NEAR:.0%}": (sum(error <= NEAR for error in errors) / max(len(errors), 1), 1.0),
        f"{basis}: nobody blamed where nobody harms": (
            min(1 - tally.blaming_runs / tally.runs for tally in harmless),
            0.95,
        ),
    }
    if delays := sum(tally.delays for tally in planted):
        verdicts[f"{basis}: delays found"] = (sum(tally.delays_found for tally in planted) / delays, 1.0)
    for name, (value, least) in verdicts.items():
        print_mark(name, value, at_least=least)
    return all(value >= least for value, least in verdicts.values())


if __name__ == "__main__":
    main()
