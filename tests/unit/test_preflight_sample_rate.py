# SPDX-License-Identifier: Apache-2.0
"""The limit of samples is noticed when it is in the way of the tick, and when it is not any more: each once."""

from tracer.kernel.sample_rate import SampleRateWatch, needed_sample_rate
from tracer.pipeline.options import TICK_BOUNDS_NS


def test_each_change_is_told_once() -> None:
    limits = iter([100_000, 3000, 2999, 10, None, 10, 50_000, 50_000])
    watch = SampleRateWatch(1_000_000, lambda: next(limits))
    told = [watch.look() for _ in range(8)]
    assert [text is not None for text in told] == [False, False, True, False, True, True, True, False]
    assert told[2] is not None
    assert told[2].startswith("kernel.perf_event_max_sample_rate is 2999, below 3000: ticks are held up")
    assert told[4] == told[6] == "kernel.perf_event_max_sample_rate holds up no ticks any more"


def test_the_kernels_default_is_enough_for_the_shortest_tick() -> None:
    assert needed_sample_rate(TICK_BOUNDS_NS[0]) < 100_000
