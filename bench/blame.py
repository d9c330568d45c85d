# SPDX-License-Identifier: Apache-2.0
"""Who made whom wait for a CPU: how often the `waits` table names the right one, in simulated runs.

    python bench/blame.py [SEEDS [SECONDS]]

A case is a container that waited for 10 % of its life or more, its threads' waits added up. Asked is the other
container behind which it waited most, if that is 20 % of its wait or more, else nobody: its own threads, its own limit,
many a little. Where two are within a tenth of each other, either is right; where the 20 % are met or missed by a
quarter, so is nobody.

Beside it, on the same runs, the rule that pressure and CPU time allow where nobody measures waits: each second's
stall (cpu.pressure, some) is shared out over who was busy in it, by CPU time; the same 20 %. PLANTED is the one case of
a run in which it was arranged who takes the CPUs. MISPLACED is the share of all wait that the table has under a wrong
holder. REPORT is how often `tracer report` says of the victim what the scenario is about, and whom it lost time to
where that is anybody. What is answered wrongly is listed by seed. Exits with 1 if a mark is missed.
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from _common import print_machine, print_mark

from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.simulate import CPU_SCENARIOS, SCENARIOS, simulate

WAITED_SHARE = 0.10
NAMED_SHARE = 0.20
NEAR_SHARE = 0.25
CLOSE = 0.9
NOBODY = "nobody"
VICTIM = "shop/web-1/app"
# What most of its wait is, in the report's words.
CAUSES: Mapping[str, Sequence[str]] = {
    "throttled": ["own-limit"],
    "cpu-hog": ["others"],
    "late-wakeups": ["others"],
    "own-threads": ["own-threads"],
    "fair-share": ["fair-share"],
    "noisy-hypervisor": ["little", "several", "fair-share", "placement"],
}

Shares = Mapping[str, float]


@dataclass
class Tally:
    """Of one scenario, all seeds."""

    cases: int = 0
    right: int = 0
    right_by_rule: int = 0
    planted: int = 0
    planted_found: int = 0
    planted_by_rule: int = 0
    reports: int = 0
    reports_right: int = 0
    misplaced_ns: float = 0.0
    wait_ns: float = 0.0
    failures: list[str] = field(default_factory=list)

    def row(self, scenario: str) -> str:
        cells = f"{scenario:<18}{self.cases:>6}"
        cells += f"{self.right / self.cases:>8.0%}{self.right_by_rule / self.cases:>8.0%}" if self.cases else " " * 16
        cells += f"{self.planted:>9}"
        if self.planted:
            cells += f"{self.planted_found / self.planted:>8.0%}{self.planted_by_rule / self.planted:>8.0%}"
        else:
            cells += " " * 16
        cells += f"{self.reports_right / self.reports:>8.0%}" if self.reports else " " * 8
        return f"{cells}{self.misplaced_ns / self.wait_ns:>11.1%}"


def named(shares: Shares) -> str:
    """Who has the largest share, if that is enough."""
    largest = max(shares, key=lambda name: shares[name], default=NOBODY)
    return largest if shares.get(largest, 0.0) >= NAMED_SHARE else NOBODY


def is_right(answer: str, true: Shares) -> bool:
    """Whether it is what the truth says, or as good."""
    most = max(true.values(), default=0.0)
    if answer == NOBODY:
        return most < NAMED_SHARE * (1 + NEAR_SHARE)
    share = true.get(answer, 0.0)
    return share >= CLOSE * most and share >= NAMED_SHARE * (1 - NEAR_SHARE)


def by_waits(output: Path, labels: Mapping[int, str]) -> dict[str, Shares]:
    """By victim, the share of its wait behind each other container, from the `waits` table."""
    rows = (
        rows_of(output, "waits")
        .group_by("cgroup_id", "holder_cgroup_id")
        .agg(pl.sum("wait_time_ns"))
        .with_columns(share=pl.col("wait_time_ns") / pl.col("wait_time_ns").sum().over("cgroup_id"))
    )
    return among_others(rows.select("cgroup_id", "holder_cgroup_id", "share"), labels)


def by_rule(output: Path, labels: Mapping[int, str]) -> dict[str, Shares]:
    """By victim, its stall shared out, second by second, over those who were busy, itself too."""
    order = ["cgroup_id", "time"]
    seconds = (
        rows_of(output, "resources")
        .sort(order)
        .select(
            *order,
            stalled=pl.col("cpu_pressure_some_total_usec").diff().over("cgroup_id"),
            used=pl.col("cpu_usage_usec").diff().over("cgroup_id"),
        )
        .drop_nulls()
        .with_columns(of_node=pl.col("used") / pl.col("used").sum().over("time"))
    )
    blamed = (
        seconds.select("time", "cgroup_id", "stalled")
        .join(seconds.select("time", "of_node", holder_cgroup_id="cgroup_id"), on="time")
        .group_by("cgroup_id", "holder_cgroup_id")
        .agg((pl.col("stalled") * pl.col("of_node")).sum())
        .with_columns(share=pl.col("stalled") / pl.col("stalled").sum().over("cgroup_id"))
    )
    return among_others(blamed.select("cgroup_id", "holder_cgroup_id", "share"), labels)


def rows_of(output: Path, table: str) -> pl.DataFrame:
    return pl.read_parquet(output / table / "**" / "*.parquet", hive_partitioning=False)


def among_others(rows: pl.DataFrame, labels: Mapping[int, str]) -> dict[str, Shares]:
    """Shares of containers other than the victim; rows are victim, holder or null, share."""
    shares: dict[str, dict[str, float]] = {label: {} for label in labels.values()}
    for victim, holder, share in rows.iter_rows():
        if holder in labels and holder != victim:
            shares[labels[victim]][labels[holder]] = share
    return shares


def misplaced_ns(waiting: dict[str, Any], shares: Shares) -> float:
    """What `waits` has under others than those behind whom it was waited, of waits behind others."""
    true = {holder["label"]: holder["wait_time_ns"] for holder in waiting["behind"]}
    told = {label: share * waiting["wait_time_ns"] for label, share in shares.items()}
    return sum(abs(true.get(label, 0.0) - told.get(label, 0.0)) for label in true.keys() | told.keys()) / 2


def judge(tally: Tally, output: Path, scenario: str, seed: int) -> None:
    """Holds both answers on `output` to its truth."""
    (path,) = output.glob("runs/*/truth.json")
    truth = json.loads(path.read_bytes())
    containers = {container["cgroup_id"]: container for container in truth["containers"]}
    labels = {cgroup_id: container["label"] for cgroup_id, container in containers.items()}
    measured, ruled = by_waits(output, labels), by_rule(output, labels)
    for waiting in truth["waiting"]:
        victim, container = waiting["label"], containers[waiting["cgroup_id"]]
        tally.wait_ns += waiting["wait_time_ns"]
        tally.misplaced_ns += misplaced_ns(waiting, measured[victim])
        lived_ns = (container["end_tick"] - container["begin_tick"]) * truth["tick_ns"]
        if waiting["wait_time_ns"] < WAITED_SHARE * lived_ns:
            continue
        true = {holder["label"]: holder["wait_time_ns"] / waiting["wait_time_ns"] for holder in waiting["behind"]}
        answer, answer_by_rule = named(measured[victim]), named(ruled[victim])
        tally.cases += 1
        tally.right += is_right(answer, true)
        tally.right_by_rule += is_right(answer_by_rule, true)
        if not is_right(answer, true):
            most = max(true, key=lambda label: true[label], default=NOBODY)
            tally.failures.append(
                f"{scenario} seed {seed}: {victim} waited behind {most} ({true.get(most, 0.0):.0%}), not {answer}"
            )
        planted = {holder["label"] for holder in waiting["behind"] if holder["planted"]}
        if scenario in CPU_SCENARIOS and victim == VICTIM and planted:
            tally.planted += 1
            tally.planted_found += answer in planted
            tally.planted_by_rule += answer_by_rule in planted


def judge_report(tally: Tally, output: Path, scenario: str, seed: int) -> None:
    """Holds what the report says of the victim to what the scenario is about."""
    found = report(open_recording([output]))
    (cause,) = (spent.cause for spent in found.time_spent if spent.container.name == VICTIM)
    waited_for = [cost for cost in found.costs if cost.kind == "waiting" and cost.container.name == VICTIM]
    by = [cost.by.name for cost in sorted(waited_for, key=lambda cost: -cost.time_ns) if cost.by is not None]
    (path,) = output.glob("runs/*/truth.json")
    planted = [container["label"] for container in json.loads(path.read_bytes())["containers"] if container["planted"]]
    tally.reports += 1
    if cause in CAUSES[scenario] and by[:1] == planted:
        tally.reports_right += 1
    else:
        tally.failures.append(f"{scenario} seed {seed}: {VICTIM} reported with {cause!r}, lost to {by}")


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    print_machine()
    print(f"{seeds} seeds of {seconds} s\n")
    print(f"{'':<18}{'':>6}{'RIGHT':>8}{'':>8}{'':>9}{'FOUND':>8}")
    columns = f"{'SCENARIO':<18}{'CASES':>6}{'WAITS':>8}{'RULE':>8}{'PLANTED':>9}{'WAITS':>8}{'RULE':>8}"
    print(f"{columns}{'REPORT':>8}{'MISPLACED':>11}")
    tallies = {scenario: Tally() for scenario in SCENARIOS}
    for scenario, tally in tallies.items():
        for seed in range(1, seeds + 1):
            with tempfile.TemporaryDirectory(prefix="tracer-bench-") as output:
                simulate(scenario, seed=seed, duration_ns=seconds * 10**9, output=Path(output))
                judge(tally, Path(output), scenario, seed)
                if scenario in CPU_SCENARIOS:
                    judge_report(tally, Path(output), scenario, seed)
        print(tally.row(scenario), flush=True)
    print()
    for failure in (failure for tally in tallies.values() for failure in tally.failures):
        print(failure)
    sys.exit(not marks_met(tallies))


def marks_met(tallies: Mapping[str, Tally]) -> bool:
    """Prints the verdicts; false if one is missed."""
    cases = sum(tally.cases for tally in tallies.values())
    planted = sum(tallies[scenario].planted for scenario in CPU_SCENARIOS)
    verdicts = {
        "named from waits, right": (sum(tally.right for tally in tallies.values()) / cases, 0.95),
        "planted, found from waits": (sum(tallies[name].planted_found for name in CPU_SCENARIOS) / planted, 1.0),
    }
    reports = [tallies[scenario] for scenario in CPU_SCENARIOS]
    right = sum(tally.reports_right for tally in reports) / sum(tally.reports for tally in reports)
    verdicts["report says what it is about"] = right, 0.95
    for name, (value, least) in verdicts.items():
        print_mark(name, value, at_least=least)
    ruled = sum(tally.right_by_rule for tally in tallies.values()) / cases
    print(f"named by stall and CPU share, right: {ruled:.4g}")
    return all(value >= least for value, least in verdicts.values())


if __name__ == "__main__":
    main()
