# SPDX-License-Identifier: Apache-2.0
"""Events are opened by a process of its own for who gave up the right to, and what is said where they are not."""

import os
from pathlib import Path

import pytest

from tracer.errors import NodeUnsupportedError
from tracer.kernel.capabilities import Capabilities, in_thread
from tracer.kernel.counter_plan import plan_counters
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_opener import KEPT, EventOpener
from tracer.kernel.event_specs import parse_events
from tracer.kernel.perf_events import open_counters, open_tick
from tracer.kernel.tick_load import TickLoad
from tracer.kernel.tick_source import KernelTickSource

pytestmark = pytest.mark.root

TICK_NS = 1_000_000
SOFTWARE = parse_events(["cycles=software:cpu-clock", "instructions=software:task-clock"])[:2]


def test_who_gave_up_the_right_has_events_opened() -> None:
    cpu = online_cpus()[-1]

    def open_all() -> tuple[int, list[str | None], list[int | None]]:
        with open_counters(cpu, SOFTWARE) as counters:
            return open_tick(cpu, TICK_NS), list(counters.reasons), list(counters.read_values())

    with pytest.raises(NodeUnsupportedError, match="cannot open the tick"):
        in_thread(Capabilities.NONE, lambda: open_tick(cpu, TICK_NS))
    with EventOpener() as opener:
        tick, reasons, values = in_thread(Capabilities.NONE, open_all)
        os.close(tick)
        status = Path(f"/proc/{opener._process.pid}/status").read_text()
    assert reasons == [None, None]
    assert all(value is not None and value >= 0 for value in values)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"\n{name}:\t{int(KEPT):016x}\n" in status
    assert "\nNoNewPrivs:\t1\n" in status
    assert opener._process.returncode == 0
    with pytest.raises(NodeUnsupportedError, match="cannot open the tick"):
        in_thread(Capabilities.NONE, lambda: open_tick(cpu, TICK_NS))


def test_what_the_kernel_refuses_is_told_by_its_reason() -> None:
    no_cpu = 4096
    with EventOpener(), pytest.raises(NodeUnsupportedError, match=r"\(EINVAL\)"):
        in_thread(Capabilities.NONE, lambda: open_tick(no_cpu, TICK_NS))


def test_a_cpu_that_comes_online_needs_one_right() -> None:
    plan = plan_counters(parse_events(["cycles=software:cpu-clock"]))
    with KernelTickSource(TickLoad(tick_ns=TICK_NS, counted=plan.counted, waits=False), plan) as source:
        source.start()
        cpu = online_cpus()[-1]
        source._close_cpu(cpu)
        (said,) = in_thread(Capabilities.NONE, source.maintain)
        assert said.startswith(f"CPU {cpu} is online without its tick and counters: cannot open the tick")
        assert in_thread(Capabilities.NONE, source.maintain) == []
        assert cpu not in source.online
        assert in_thread(Capabilities.PERFMON, source.maintain)[0] == f"CPU {cpu} came online"
        assert cpu in source.online
        assert source.counting()[cpu].reasons[0] is None
