# SPDX-License-Identifier: Apache-2.0
"""What a context switch costs with the tracer's program on it, against what its readings alone cost.

    python bench/switch_cost.py [ROUNDS]

Two processes pinned to one CPU throw a byte to and fro (_ping_pong.py), so that each throw is a switch, and the kernel
times the program at sched_switch (BPF_STATS_RUN_TIME). In each round, one after the other:

    empty      a program that does nothing: what the timing itself costs
    readings   clock, cgroup id and counters, read and stored (switch_baselines.c)
    tracer     the whole program as in a run: tick running, rings drained each millisecond on another CPU

The mark is on (tracer - empty) / (readings - empty), the median over the rounds: without counters, and with three
software counters, which any node has.

Needs root, and nothing else to happen on the node.
"""

import os
import statistics
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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


def ns_per_run(program_fd: int, cpu: int) -> float:
    """Mean time of an attached program over a ping-pong."""
    before = bpf.program_statistics(program_fd)
    if subprocess.run([sys.executable, "-I", str(HERE / "_ping_pong.py"), str(cpu), str(THROWS)]).returncode:
        sys.exit("the ping-pong failed")
    after = bpf.program_statistics(program_fd)
    runs = after["run_cnt"] - before["run_cnt"]
    if runs < THROWS:
        sys.exit(f"the program ran {runs} times in {THROWS} switches")
    return (after["run_time_ns"] - before["run_time_ns"]) / runs


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
            return ns_per_run(program, cpu)

    def close(self) -> None:
        """Gives programs and maps back."""
        self._module.cleanup()


def tracer_ns_per_run(plan: CounterPlan, cpu: int) -> float:
    """Cost of the tracer's program in a run."""
    load = TickLoad(tick_ns=TICK_NS, counted=plan.counted)
    with KernelTickSource(load, plan) as source:
        source.start()
        reader = threading.Thread(target=drain_until_interrupted, args=(source.rings,))
        reader.start()
        try:
            return ns_per_run(source.programs["sched_switch"], cpu)
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


def measure(title: str, plan: CounterPlan, mark: float, rounds: int) -> None:
    # Away from where the bench and its reader run, if there is a choice.
    cpu = online_cpus()[-1]
    baselines = Baselines(plan)
    measured: dict[str, list[float]] = {"empty": [], "readings": [], "tracer": []}
    for _ in range(rounds):
        measured["empty"].append(baselines.ns_per_run("empty", cpu))
        measured["readings"].append(baselines.ns_per_run("readings_only", cpu))
        measured["tracer"].append(tracer_ns_per_run(plan, cpu))
    baselines.close()

    print(f"{title}: ns per switch, medians of {rounds} rounds of {THROWS:,} throws on CPU {cpu}")
    for name, values in measured.items():
        print(f"  {name:10}{statistics.median(values):7.0f}   from {min(values):.0f} to {max(values):.0f}")
    ratios = [(tracer - empty) / (readings - empty) for empty, readings, tracer in zip(*measured.values(), strict=True)]
    print(f"  ratios    {'  '.join(f'{ratio:.2f}' for ratio in ratios)}")
    print_mark(f"switch_cost {title}", statistics.median(ratios), at_most=mark)


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
    measure("without counters", uncounted, 1.4, rounds)
    measure("with three counters", counted, 1.2, rounds)
    os.close(statistics_fd)


if __name__ == "__main__":
    main()
