# SPDX-License-Identifier: Apache-2.0
"""What a context switch costs with the tracer's programs on it, against what their readings alone cost.

    python bench/switch_cost.py [ROUNDS]

Two processes pinned to one CPU throw a byte to and fro (_ping_pong.py), so that each throw is a switch, and the kernel
times the program at sched_switch (BPF_STATS_RUN_TIME). In each round, one after the other:

    empty      a program that does nothing: what the timing itself costs
    readings   clock, cgroup id and counters, read and stored (switch_baselines.c)
    tracer     the whole program as in a run with --waits off: tick running, rings drained each millisecond on
               another CPU
    waits      likewise with --waits on: the programs at sched_switch and at sched_wakeup together

The marks are on (tracer - empty) / (readings - empty), the median over the rounds, without counters and with three
software counters, which any node has; and on what a switch and the wake-up before it cost with waits, both less an
empty program: with counters as a ratio to the switch without waits, without counters in ns more than that.

Needs root, and nothing else to happen on the node.
"""

import os
import statistics
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from _common import need_root, print_machine, print_mark

from tracer.kernel import bpf
from tracer.kernel.counter_plan import CounterPlan, plan_counters
from tracer.kernel.cpus import online_cpus, possible_cpus
from tracer.kernel.event_specs import parse_events
from tracer.kernel.loader import programs_directory
from tracer.kernel.loader_process import import_bcc
from tracer.kernel.perf_events import open_counters
from tracer.kernel.record_block import RecordBlock
from tracer.kernel.rings import Rings
from tracer.kernel.tick_load import TickLoad
from tracer.kernel.tick_source import KernelTickSource

HERE = Path(__file__).parent
TICK_NS = 1_000_000
THROWS = 100_000
COUNTER_OPTIONS = (
    "cycles=software:cpu-clock",
    "instructions=software:page-faults",
    "llc_misses=software:context-switches",
)
BLOCK_ROWS = 1 << 18


def ns_per_run(cpu: int, *programs: int) -> float:
    """Mean times of attached programs over a ping-pong, added up."""
    before = [bpf.program_statistics(program) for program in programs]
    if subprocess.run([sys.executable, "-I", str(HERE / "_ping_pong.py"), str(cpu), str(THROWS)]).returncode:
        sys.exit("the ping-pong failed")
    total = 0.0
    for program, earlier in zip(programs, before, strict=True):
        after = bpf.program_statistics(program)
        runs = after["run_cnt"] - earlier["run_cnt"]
        if runs < THROWS:
            sys.exit(f"a program ran {runs} times in {THROWS} throws")
        total += (after["run_time_ns"] - earlier["run_time_ns"]) / runs
    return total


class Baselines:
    """switch_baselines.c, loaded once, attached for each measurement."""

    def __init__(self, plan: CounterPlan) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(programs_directory() / "headers")
        bcc = import_bcc()
        flags = [f"-DCPUS={possible_cpus()[-1] + 1}", f"-DCOUNTED={int(all(plan.counted))}"]
        self._module: Any = bcc.BPF(src_file=str(HERE / "switch_baselines.c"), cflags=flags)
        self._plan = plan

    def ns_per_run(self, name: str, cpu: int) -> float:
        """Cost of one of its programs. The counters are open meanwhile only: each switch pays for open ones."""
        program = self._module.load_func(name, self._module.RAW_TRACEPOINT).fd
        with ExitStack() as stack:
            for each in online_cpus():
                counters = stack.enter_context(open_counters(each, self._plan.counted_specs))
                for index, descriptor in enumerate(counters.fds):
                    array = self._module[f"counter{index}"].map_fd
                    assert descriptor is not None
                    bpf.set_descriptor(array, each, descriptor)
                    stack.callback(bpf.clear_descriptor, array, each)
            stack.callback(os.close, bpf.attach_raw_tracepoint("sched_switch", program))
            return ns_per_run(cpu, program)

    def close(self) -> None:
        """Gives programs and maps back."""
        self._module.cleanup()


def tracer_ns_per_run(plan: CounterPlan, cpu: int, *programs: str, waits: bool) -> float:
    """Cost of these of the tracer's programs in a run."""
    load = TickLoad(tick_ns=TICK_NS, counted=plan.counted, waits=waits)
    with KernelTickSource(load, plan) as source:
        source.start()
        reader = threading.Thread(target=drain_until_interrupted, args=(source.rings,))
        reader.start()
        try:
            return ns_per_run(cpu, *(source.programs[name] for name in programs))
        finally:
            source.rings.interrupt()
            reader.join()
            lost = sum(losses.ring_full + losses.no_ring for losses in source.losses().values())
            if lost:
                sys.exit(f"{lost} records were lost: the rings were not drained as in a run")


def drain_until_interrupted(rings: Rings) -> None:
    """Drains each millisecond, as a run does, and forgets what came."""
    block = RecordBlock(BLOCK_ROWS)
    # The block is far larger than what comes in a measurement: this returns when interrupted.
    rings.follow(block, 0, interval_ns=TICK_NS, phase_ns=TICK_NS // 5, deadline_ns=2**62)


class Round(NamedTuple):
    """ns a run of what was measured one after the other."""

    empty: float
    readings: float
    tracer: float
    waits: float

    @property
    def added(self) -> float:
        """What waits cost more, with a program more."""
        return self.waits - self.tracer - self.empty


def measure(title: str, plan: CounterPlan, rounds: int) -> list[Round]:
    # Away from where the bench and its reader run, if there is a choice.
    cpu = online_cpus()[-1]
    baselines = Baselines(plan)
    measured = [
        Round(
            baselines.ns_per_run("empty", cpu),
            baselines.ns_per_run("readings_only", cpu),
            tracer_ns_per_run(plan, cpu, "sched_switch", waits=False),
            tracer_ns_per_run(plan, cpu, "sched_switch", "sched_wakeup", waits=True),
        )
        for _ in range(rounds)
    ]
    baselines.close()

    print(f"{title}: ns per throw, medians of {rounds} rounds of {THROWS:,} throws on CPU {cpu}")
    for name, values in zip(Round._fields, zip(*measured, strict=True), strict=True):
        print(f"  {name:10}{statistics.median(values):7.0f}   from {min(values):.0f} to {max(values):.0f}")
    return measured


def main() -> None:
    need_root()
    print_machine()
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    specs = parse_events(COUNTER_OPTIONS)
    uncounted = CounterPlan(specs, ("not asked for",) * len(specs), grouped=True)
    counted = plan_counters(specs)
    if not all(counted.counted):
        sys.exit(f"this node cannot count software events: {counted.reasons}")
    # The reader's affinity is the bench's: it stays off the CPU that is measured.
    if others := set(online_cpus()[:-1]):
        os.sched_setaffinity(0, others)
    statistics_fd = bpf.enable_statistics()
    for title, plan, mark in (("without counters", uncounted, 1.4), ("with three counters", counted, 1.2)):
        measured = measure(title, plan, rounds)
        ratios = [(each.tracer - each.empty) / (each.readings - each.empty) for each in measured]
        print_mark(f"switch_cost {title}", statistics.median(ratios), at_most=mark)
        if plan is uncounted:
            print_mark("switch_cost waits, ns more", statistics.median(each.added for each in measured), at_most=120)
        else:
            waits = [(each.waits - 2 * each.empty) / (each.tracer - each.empty) for each in measured]
            print_mark("switch_cost waits with three counters", statistics.median(waits), at_most=1.4)
    os.close(statistics_fd)


if __name__ == "__main__":
    main()
