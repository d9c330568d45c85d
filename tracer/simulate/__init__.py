# SPDX-License-Identifier: Apache-2.0
"""A node that does not exist, with a known truth: a source of tick records for whoever wants to try an analysis.

Its records go through the pipeline's own code from the reader's columns on. Nothing imports this but the command.

    run.py              from a scenario to the files: `simulate`
    scenario.py         what a scenario is made of
    scenarios.py        the named ones: cache_scenarios.py and cpu_scenarios.py, with the same cast (cast.py)
    shape.py            CPUs, siblings and last-level caches
    node.py             second by second, who ran where, how fast, and what it cost whom
    demand.py           what threads want, and on which CPUs they would like to be
    scheduler/          who runs when on which CPU, and who waits behind whom
    steal.py            what the hypervisor takes
    neighbours.py       what neighbours do to a thread
    interference.py     how much slower that makes it
    cold_caches.py      what a pause costs
    random_times.py     random courses of time
    sums.py             sums over threads
    counters.py         the columns of a reader, with what counters lose
    cgroups.py          ids, paths and names
    nodes.py            what a node is to those who write down what happens on it
    physical/           a machine in which no formula says how much one slows down another
    vital_signs.py      rows of `resources` and `lifecycle`
    truth.py            `truth.json`; waiting.py: the part of it about waits
"""

from tracer.simulate.run import SimulatedRun, simulate
from tracer.simulate.scenarios import CACHE_SCENARIOS, CPU_SCENARIOS, SCENARIOS

__all__ = ["CACHE_SCENARIOS", "CPU_SCENARIOS", "SCENARIOS", "SimulatedRun", "simulate"]
