# SPDX-License-Identifier: Apache-2.0
"""Is `tracer compare` right as often as it says? On simulated runs, of which is known what is the same in both.

Pairs of runs have the same cast and differ by chance alone, or by one service's CPI too.
"""

import tempfile
from pathlib import Path

import msgspec
from _common import print_machine, print_mark

from tracer.analysis.comparison.compare import compare
from tracer.analysis.comparison.limits import parse_limit
from tracer.analysis.comparison.results import Comparison
from tracer.analysis.comparison.sides import open_side
from tracer.simulate import simulate
from tracer.simulate.scenario import Scenario
from tracer.simulate.scenarios import build_scenario
from tracer.simulate.shape import NodeShape

SHAPE = NodeShape(cpus=4, llc_domains=1)
SCENARIOS = ("quiet", "cache-thrash", "decoy", "lost-counters")
PAIRS = 20
SECONDS = 60
PLANTED_SECONDS = 180
PLANTED = 1.25
VICTIM = "shop/web-1/app"
LIMITS = ("cpi>5%", "misses_per_kilo_instruction>10%", "instructions_per_second<-10%", "cores>10%")


def main() -> None:
    """Prints a line for each scenario, and the marks."""
    print_machine()
    print(f"{PAIRS} pairs of runs of {SECONDS} s, {len(LIMITS)} limits; of the planted change {PLANTED_SECONDS} s")
    failed = within = tests = 0
    for name in SCENARIOS:
        pairs = [compared(cast(name, seed), cast(name, seed), seed, SECONDS) for seed in range(PAIRS)]
        failures = sum(any(verdict.exceeded for verdict in pair.verdicts) for pair in pairs)
        changes = [change for pair in pairs for workload in pair.workloads for change in workload.changes]
        covered = sum(change.low <= 0 <= change.high for change in changes)
        cpi = sorted((change.high - change.low) / 2 for change in changes if change.metric == "cpi")
        print(
            f"{name:14} pairs that failed {failures:2} of {PAIRS}; intervals of 95 % that held "
            f"{covered / len(changes):.1%} of {len(changes)}; half of CPI's +- {cpi[len(cpi) // 2]:.1%} or less"
        )
        failed, within, tests = failed + failures, within + covered, tests + len(changes)
    found = [planted(seed) for seed in range(PAIRS)]
    print(f"a CPI {PLANTED - 1:.0%} higher: cpi>5% failed in {sum(found)} of {PAIRS} pairs, by that service alone")
    print_mark("pairs of equal runs that pass", 1 - failed / (PAIRS * len(SCENARIOS)), at_least=0.95)
    print_mark("intervals of 95 % that hold", within / tests, at_least=0.92)
    print_mark("planted changes that fail", sum(found) / PAIRS, at_least=0.95)


def cast(name: str, seed: int) -> Scenario:
    """Who is on the node, and how sensitive."""
    return build_scenario(name, shape=SHAPE, seed=seed, containers=6)


def planted(seed: int) -> bool:
    """Whether a higher CPI was found, and nobody else's."""
    scenario = cast("quiet", seed)
    slower = [
        msgspec.structs.replace(container, cpi=PLANTED * container.cpi) if container.label == VICTIM else container
        for container in scenario.containers
    ]
    comparison = compared(scenario, msgspec.structs.replace(scenario, containers=slower), seed, PLANTED_SECONDS)
    return [excess.workload for excess in comparison.verdicts[0].exceeded] == [VICTIM]


def compared(before: Scenario, after: Scenario, seed: int, seconds: int) -> Comparison:
    """Two runs that differ by chance too."""
    with tempfile.TemporaryDirectory() as directory:
        sides = []
        for side, (scenario, chance) in enumerate(((before, 1000 + seed), (after, 2000 + seed))):
            output = Path(directory, str(side))
            simulate(scenario, seed=chance, duration_ns=seconds * 10**9, output=output, shape=SHAPE)
            sides.append(open_side(str(output)))
        return compare(sides[0], sides[1], [parse_limit(limit) for limit in LIMITS])


if __name__ == "__main__":
    main()
