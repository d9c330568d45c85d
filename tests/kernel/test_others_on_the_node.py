# SPDX-License-Identifier: Apache-2.0
"""Several that trace a node at the same time: two tracers, and another's programs where they have theirs."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Tracer

from tracer.kernel.cpus import online_cpus

pytestmark = pytest.mark.root

# As bpftrace would: raw tracepoints, a clock of its own on each CPU, and each takes its time.
OTHER = """
from tracer.kernel.loader_process import import_bcc
from time import sleep
bcc = import_bcc()
programs = bcc.BPF(text='''
BPF_ARRAY(seen, u64, 3);
static inline void count(int key)
{
    u64 *sum = seen.lookup(&key);

    for (int i = 0; sum && i < 30; i++)
        __sync_fetch_and_add(sum, 1);
}
RAW_TRACEPOINT_PROBE(sched_switch) { count(0); return 0; }
RAW_TRACEPOINT_PROBE(sched_wakeup) { count(1); return 0; }
int sample(void *ctx) { count(2); return 0; }
''')
programs.attach_perf_event(ev_type=1, ev_config=0, fn_name="sample", sample_freq=999)
print("attached", flush=True)
sleep(600)
"""


@pytest.fixture
def other() -> Iterator[None]:
    """Somebody else's programs on the tracepoints and the clock that the tracer uses."""
    root = Path(__file__).parents[2]
    environment = {"BCC_KERNEL_SOURCE": str(root / "bpf_programs/headers"), "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == "attached\n", process.stderr.read()
            yield
            assert process.poll() is None
        finally:
            process.kill()


@pytest.mark.usefixtures("other")
def test_all_of_them_are_right(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup], tmp_path: Path
) -> None:
    container = new_container()
    tracers = [
        start_tracer("--event", "cycles=software:cpu-clock", output=tmp_path / name) for name in ("first", "second")
    ]
    for tracer in tracers:
        tracer.wait_until_tracing()
    container.start(SPIN)
    container.start("while :; do sleep 0.002; done")
    time.sleep(4)
    container.stop()
    for tracer in tracers:
        tracer.process.terminate()
    results = [tracer.result() for tracer in tracers]

    for result in results:
        totals = result.manifest.totals
        assert (totals.records_lost, totals.records_unaccounted, totals.counter_values_refused) == (0, 0, 0)
        ticks = result.manifest.last_tick - result.manifest.first_tick + 1  # type: ignore[operator]
        assert result.table("windows")["cpu_time_ns"].sum() == 1_000_000 * ticks * len(online_cpus())
        rows = result.table("windows").filter(pl.col("cgroup_id") == container.id)
        # The scheduler takes off what the hypervisor took.
        ran = rows.select(pl.sum("cpu_time_ns") - pl.sum("stolen_time_ns").fill_null(0)).item()
        assert ran == pytest.approx(container.cpu_time_ns(), rel=0.01)
        # But for windows in which it only waited.
        rows = rows.filter(pl.col("cpu_time_ns") > 0)
        assert rows["cycles"].null_count() == 0
        assert rows["cycles"].sum() == pytest.approx(rows["cpu_time_ns"].sum(), rel=0.01)
        assert (rows["counter_coverage"] == 1).all()
