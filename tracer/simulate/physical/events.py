# SPDX-License-Identifier: Apache-2.0
"""When the jobs of a physical scenario begin, and how much work each brings."""

import numpy as np

from tracer.simulate.physical.cache import Floats
from tracer.simulate.physical.plan import alone_cpi
from tracer.simulate.physical.workload import Bursts, PhysicalScenario


def job_events(scenario: PhysicalScenario, *, seed: int, ticks: int) -> list[tuple[int, int, float]]:
    """(tick, container, instructions) of each burst of each container, as drawn by its pod and name alone."""
    events = []
    begins: dict[str, Floats] = {}
    for index, workload in enumerate(scenario.workloads):
        bursts, label = workload.bursts, workload.container.label
        if bursts is None:
            continue
        drawn_by = f"{workload.container.pod}/{workload.container.name}"
        random = np.random.default_rng([seed, *b"bursts", *drawn_by.encode()])
        begins[label] = _begins(bursts, random, ticks, begins)
        # Cycles in a ms of all threads, over those of an instruction.
        in_ms = workload.container.threads * 1e6 * scenario.machine.top_ghz / alone_cpi(workload.job, scenario.machine)
        lengths = random.uniform(*bursts.lengths, len(begins[label]))
        events += [
            (int(begin), index, float(length * in_ms)) for begin, length in zip(begins[label], lengths, strict=True)
        ]
    return events


def _begins(bursts: Bursts, random: np.random.Generator, ticks: int, others: dict[str, Floats]) -> Floats:
    """Ticks in which bursts begin, within their share of the run."""
    first, last = bursts.begin * ticks, bursts.end * ticks
    if bursts.with_label is not None:
        theirs = others[bursts.with_label]
        found = theirs[random.random(len(theirs)) < bursts.together]
    elif bursts.period is not None:
        found = (
            first + random.uniform(0, bursts.period) + bursts.period * np.arange((last - first) // bursts.period + 1)
        )
        found = np.sort(found + random.uniform(-bursts.jitter, bursts.jitter, len(found)))
    else:
        gap = bursts.mean_gap + sum(bursts.lengths) / 2
        count = int((last - first) / gap * 1.5 + 40)
        found = first + np.cumsum(random.exponential(bursts.mean_gap, count) + random.uniform(*bursts.lengths, count))
    kept: Floats = found[(found >= first) & (found < min(last, ticks))]
    return kept
