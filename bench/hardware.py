# SPDX-License-Identifier: Apache-2.0
"""Holds the report's estimate of what caches and memory cost to real ones.

    python bench/hardware.py [SECONDS [SEED [DIRECTORY]]]

On one CPU runs a victim, on another come bursts of an aggressor that reads through memory, at random times, and of a
decoy that computes and reads next to nothing, at other random times. Each counts by millisecond what it does. What it
did is made a recording as of any node: without a PMU, accesses stand for instructions, CPU time for cycles, lines read
for the aggressor's misses, and loads that took as long as memory takes for the victim's; with a PMU, its counters.

The truth is what the same victim did in stretches without the aggressor, and without the decoy, that take turns at
random with those recorded: CPU time for the same work. Kinds of victim have sets of lines of random size.

LOST: the share of the victim's time that the aggressor cost it, with its interval of 95 %; AFTER: how much of that
between bursts. ESTIMATE is the report's; NAMED: it names the aggressor, alone or with the decoy (joint), or says that
it cannot tell (untold), or neither. DECOY: what the decoy cost in truth, and whether the report names it. NOISE: by
how much the time for the same work differed between stretches without the aggressor. GOT: of the time in which the
victim wanted its CPU, how much it had it; LOAD: the load average; STEAL: what the hypervisor took of all CPUs.

A kind of which the truth is known no better than by 4 % of its time or a quarter of the loss is too noisy to tell, and
not judged. Exits with 1 if a mark is missed, or if none can be judged. The directory, a new one, keeps the recordings,
with the truth beside them.
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import print_machine, print_mark
from _hardware_plan import (
    AGGRESSOR,
    DECOY,
    VICTIM,
    Loss,
    Stretch,
    after_bursts,
    loss,
    recorded,
    schedule,
    spread,
    stretches,
)
from _hardware_recording import NAMES, write_recording
from _hardware_run import Counts, Load

from tracer.analysis.findings import Estimate, Report
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.kernel.cpus import parse_cpu_list
from tracer.kernel.topology import Topology, read_topology

LARGE_LOSS, NEXT_TO_NOTHING = 0.10, 0.02
# Of the victim's time, or of the loss.
KNOWN_WITHIN, KNOWN_WITHIN_OF_LOSS = 0.04, 0.25
MIB = 1 << 20
# What the aggressor reads through: whatever costs a victim of that size most, in so long.
STREAMS_MIB = (16, 32, 64, 128)
TRIAL_SET, TRIAL_TURN_MS, TRIAL_MS = 8 * MIB, 400, 8_000


class Kind(NamedTuple):
    """Of victim: the bounds of its set of lines, MiB; steps of computing after 64 accesses; whether it pauses; and how
    long the aggressor does, ms.
    """

    name: str
    least: float
    most: float
    compute: int = 0
    has_pauses: bool = False
    gap_ms: tuple[int, int] = (30, 300)


KINDS = (
    Kind("small set", 1, 3),
    Kind("middle set", 4, 8),
    Kind("large set", 8, 16),
    Kind("often hit", 6, 12, gap_ms=(10, 60)),
    Kind("with computing", 6, 12, compute=1_000),
    Kind("requests", 6, 12, has_pauses=True),
)


@dataclass
class Answer:
    """What the report says of the victim."""

    named: str
    estimate: Estimate | None
    accuses_decoy: bool


@dataclass
class Case:
    kind: Kind
    lost: Loss
    lost_to_decoy: Loss
    answers: dict[str, Answer]

    @property
    def is_known(self) -> bool:
        return (self.lost.high - self.lost.low) / 2 <= max(KNOWN_WITHIN, KNOWN_WITHIN_OF_LOSS * self.lost.share)


def l2_bytes() -> int:
    """Of a CPU's own cache, by glibc; 2 MiB if it does not know."""
    asked = subprocess.run(["getconf", "LEVEL2_CACHE_SIZE"], capture_output=True, text=True, check=False).stdout.strip()
    return int(asked) if asked.isdecimal() and int(asked) else 2 * MIB


def two_cpus(topology: Topology) -> tuple[int, int]:
    """The victim's and the others': two that share a last-level cache, and no core if it can be helped."""
    allowed = os.sched_getaffinity(0)
    cores = [set(parse_cpu_list(core.cpus)) for core in topology.cores or []]
    pairs = [
        (victim, other)
        for domain in topology.llc_domains
        for victim, other in permutations(sorted(allowed & set(parse_cpu_list(domain.cpus)), reverse=True), 2)
    ]
    if not pairs:
        sys.exit("this bench needs two CPUs that share a last-level cache")
    return next((pair for pair in pairs if not any(core >= set(pair) for core in cores)), pairs[0])


def stolen() -> tuple[int, int]:
    """Of all CPUs: ticks that the hypervisor took, and all."""
    numbers = [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return numbers[7], sum(numbers)


def worst_stream(load: Load, llc_bytes: int) -> int:
    """Bytes to read through that cost a victim most: a cache may let pass by what is so much that nothing is reused."""
    costs = {}
    for size in sorted({*(mib * MIB for mib in STREAMS_MIB), max(2 * llc_bytes, 256 * MIB)}):
        bits = np.full(TRIAL_MS, 1 << VICTIM, np.uint8)
        turns = np.arange(TRIAL_MS).reshape(-1, 2, TRIAL_TURN_MS)
        bits[turns[:, 1]] |= 1 << AGGRESSOR
        counts = load.run(bits, set_bytes=TRIAL_SET, stream_bytes=size)
        work, time = (values[VICTIM][turns].sum(axis=2) for values in (counts.accesses, counts.time_ns))
        alone, beside = (time / np.maximum(work, 1)).T
        costs[size] = float(np.median(beside / np.maximum(alone, 1e-9)))
        lines = counts.accesses[AGGRESSOR].sum() / max(counts.time_ns[AGGRESSOR].sum(), 1) * 64
        print(f"reading through {size // MIB} MiB at {lines:.1f} GB/s: a set of {TRIAL_SET // MIB} MiB takes ", end="")
        print(f"{costs[size]:.2f} times as long", flush=True)
    return max(costs, key=lambda size: costs[size])


def answer(found: Report) -> Answer:
    """Names are of pods: see `write_recording`."""
    victim_name, aggressor, decoy = (f"default/{name}/load" for name in NAMES)
    of_victim = [victim for victim in found.victims if victim.container.name == victim_name]
    named = {one.container.name: one.lost_share for victim in of_victim for one in victim.aggressors}
    joint = [one for one in found.joint if one.victim.name == victim_name]
    together = {suspect.name: one.lost_share for one in joint for suspect in one.aggressors}
    untold = {s.name for one in found.untold if one.container.name == victim_name for s in one.suspects}
    accuses_decoy = decoy in named or decoy in together
    if aggressor in named:
        return Answer("yes", named[aggressor], accuses_decoy)
    if aggressor in together:
        return Answer("joint", together[aggressor], accuses_decoy)
    return Answer("untold" if aggressor in untold else "no", None, accuses_decoy)


def shown(value: Loss | Estimate) -> str:
    share = value.share if isinstance(value, Loss) else value.value
    return f"{share:.1%} [{value.low:.1%}, {value.high:.1%}]"


def held_to_truth(
    load: Load,
    kind: Kind,
    random: np.random.Generator,
    seconds: int,
    stream: int,
    directory: Path,
    cpus: tuple[int, int],
) -> Case:
    set_bytes = int(MIB * np.exp(random.uniform(np.log(kind.least), np.log(kind.most))))
    parts = stretches(random, seconds * 1_000)
    bits = schedule(random, parts, kind.gap_ms, has_pauses=kind.has_pauses)
    stolen_before, all_before = stolen()
    counts = load.run(bits, set_bytes=set_bytes, stream_bytes=stream, compute=kind.compute)
    stolen_after, all_after = stolen()
    case = judged(kind, parts, counts, directory / kind.name.replace(" ", "-"), cpus)
    got = counts.time_ns[VICTIM].sum() / 1e6 / np.count_nonzero(bits & 1 << VICTIM)
    steal = (stolen_after - stolen_before) / max(all_after - all_before, 1)
    print_case(case, set_bytes, parts, counts, f"{got:>6.0%}{os.getloadavg()[0]:>6.1f}{steal:>7.1%}")
    return case


def judged(kind: Kind, parts: list[Stretch], counts: Counts, directory: Path, cpus: tuple[int, int]) -> Case:
    work, time = counts.accesses[VICTIM], counts.time_ns[VICTIM]
    is_recorded = recorded(parts)
    answers = {}
    for basis in ("ticks", "windows"):
        output = directory / basis
        write_recording(output, counts, is_recorded, cpus, write_ticks=basis == "ticks")
        answers[basis] = answer(report(open_recording([output])))
    case = Case(kind, loss(parts, work, time, AGGRESSOR), loss(parts, work, time, DECOY), answers)
    truth = {"lost": case.lost._asdict(), "lost_to_decoy": case.lost_to_decoy._asdict(), "slow_load": counts.slow}
    (directory / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    return case


def print_case(case: Case, set_bytes: int, parts: list[Stretch], counts: Counts, disturbed: str) -> None:
    work, time = counts.accesses[VICTIM], counts.time_ns[VICTIM]
    after = ""
    if case.lost.low > NEXT_TO_NOTHING:
        after = f"{after_bursts(parts, work, time, counts.is_burst):.0%}"
    for basis, said in case.answers.items():
        estimate = "-" if said.estimate is None else shown(said.estimate)
        decoy = f"{case.lost_to_decoy.share:.1%}{', named' if said.accuses_decoy else ''}"
        print(
            f"{case.kind.name:<16}{set_bytes / MIB:>5.1f}  {basis:<9}{shown(case.lost):<23}{after:>5}  {estimate:<23}"
            f"{said.named:<8}{decoy:<14}{spread(parts, work, time):>6.1%}{disturbed}"
            f"{'' if case.is_known else '  too noisy to tell'}",
            flush=True,
        )


def marks_met(cases: list[Case], basis: str) -> bool:
    """Prints the verdicts; false if one is missed."""
    known = [case for case in cases if case.is_known]
    answers = [(case, case.answers[basis]) for case in known]
    named = [(case, said.estimate) for case, said in answers if said.estimate is not None]
    counts = {
        "large losses that are named, or said to be untold": [
            said.named != "no" for case, said in answers if case.lost.share >= LARGE_LOSS
        ],
        "named losses whose interval meets that of the truth": [
            estimate.low <= case.lost.high and case.lost.low <= estimate.high for case, estimate in named
        ],
        "named losses that are true": [case.lost.high >= NEXT_TO_NOTHING for case, _estimate in named],
        "decoys that are left alone": [
            not said.accuses_decoy for case, said in answers if case.lost_to_decoy.low < NEXT_TO_NOTHING
        ],
    }
    for name, passed in counts.items():
        if passed:
            print_mark(f"{basis}: {name} (of {len(passed)})", sum(passed) / len(passed), at_least=1.0)
        else:
            print(f"{basis}: {name}: none to judge")
    return all(all(passed) for passed in counts.values())


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 90
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    if len(sys.argv) > 3 and Path(sys.argv[3]).exists():
        sys.exit(f"{sys.argv[3]} is there already")
    topology = read_topology()
    llc_bytes = max((domain.size_bytes or 0 for domain in topology.llc_domains), default=0)
    cpus = two_cpus(topology)
    print_machine()
    print(f"caches by the topology: L2 {l2_bytes() / MIB:g} MiB, last level {llc_bytes / MIB:g} MiB")
    print(f"victim on CPU {cpus[0]}, aggressor and decoy on CPU {cpus[1]}, {seconds} s each, seed {seed}")
    with tempfile.TemporaryDirectory(prefix="tracer-bench-") as scratch:
        load = Load(Path(scratch), cpus, l2_bytes())
        print("counters: " + ("the PMU's" if load.events else "none, so what the threads did stands in their place"))
        stream = worst_stream(load, llc_bytes)
        print(
            f"\n{'VICTIM':<16}{'MiB':>5}  {'FROM':<9}{'LOST':<23}{'AFTER':>5}  {'ESTIMATE':<23}{'NAMED':<8}"
            f"{'DECOY':<14}{'NOISE':>6}{'GOT':>6}{'LOAD':>6}{'STEAL':>7}"
        )
        directory = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(scratch) / "recordings"
        random = np.random.default_rng(seed)
        cases = [held_to_truth(load, kind, random, seconds, stream, directory, cpus) for kind in KINDS]
    print()
    noisy = sum(not case.is_known for case in cases)
    if noisy:
        print(f"{noisy} of {len(cases)} too noisy to tell: something else used the caches, the CPUs or the memory")
    sys.exit(not all([marks_met(cases, "ticks"), marks_met(cases, "windows")]) or noisy == len(cases))


if __name__ == "__main__":
    main()
