# SPDX-License-Identifier: Apache-2.0
"""CPUs that come while a run is under way, and for which the process gets nothing: on the real kernel, but for the list
of CPUs that are online and for what it refuses.
"""

from collections.abc import Iterator

import pytest

from tracer.errors import NodeUnsupportedError
from tracer.kernel import tick_source
from tracer.kernel.counter_plan import plan_counters
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import parse_events
from tracer.kernel.tick_load import TickLoad
from tracer.kernel.tick_source import KernelTickSource

pytestmark = pytest.mark.root

ALL = online_cpus()
LAST = ALL[-1]
CLOCK = [f"{column}=software:cpu-clock" for column in ("cycles", "instructions", "llc_misses")]


@pytest.fixture
def source() -> Iterator[KernelTickSource]:
    """One that has begun to measure."""
    plan = plan_counters(parse_events(CLOCK))
    with KernelTickSource(TickLoad(tick_ns=1_000_000, counted=plan.counted), plan, ring_bytes=1 << 16) as started:
        started.start()
        assert started.online == ALL
        yield started


@pytest.mark.parametrize("refused", ["open_tick", "open_counters", "enable_in_phase"])
def test_a_cpu_for_which_nothing_can_be_opened_is_told_once_and_tried_again(
    source: KernelTickSource, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    assert source.maintain() == []
    monkeypatch.setattr(tick_source, "online_cpus", lambda: ALL[:-1])
    assert source.maintain() == [f"CPU {LAST} went offline"]

    def refuse(*_arguments: object, **_further: object) -> int:
        raise NodeUnsupportedError("the process may open only 7 files")

    monkeypatch.setattr(tick_source, "online_cpus", lambda: ALL)
    with monkeypatch.context() as refusing:
        refusing.setattr(tick_source, refused, refuse)
        told = f"CPU {LAST} is online without its tick and counters: the process may open only 7 files"
        assert [source.maintain() for _ in range(3)] == [[told], [], []]
        assert source.online == ALL[:-1]
        # The run goes on meanwhile.
        assert set(source.take_coverage()) >= set(ALL[:-1])
    assert source.maintain() == [f"CPU {LAST} came online"]
    assert source.maintain() == []
    assert source.online == ALL
