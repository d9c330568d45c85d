# SPDX-License-Identifier: Apache-2.0
"""A run that is near its bound of memory leaves out parts of the results in their order, and says so everywhere."""

from collections.abc import Callable

import pytest
from live_node import SPIN, Cgroup, Tracer

from tracer.analysis.caveats import incomplete
from tracer.analysis.recording import open_recording

pytestmark = pytest.mark.root

PARTS = ["`ticks` are not written", "`waits` are not written", "windows are of 240 ticks"]


def test_what_is_left_out_near_the_bound_of_memory(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    busy = new_container()
    # The least that it takes: libraries alone are more than nine tenths of that.
    tracer = start_tracer("--ticks", "--memory-limit", "256MiB", "--duration", "12s")
    tracer.wait_until_tracing()
    busy.start(SPIN)
    result = tracer.result()

    assert [gap.what for gap in result.manifest.left_out] == PARTS
    assert all("near --memory-limit (256 MiB)" in gap.reason for gap in result.manifest.left_out)
    assert all(result.said.count(f"from now on {part}") == 1 for part in PARTS)
    health = result.table("health").sort("time")
    assert health["parts_left_out"].is_sorted()
    assert health["parts_left_out"][-1] == len(PARTS)

    first, second, third = (gap.start.utc_ns for gap in result.manifest.left_out)
    ticks, waits, windows = (result.table(name) for name in ("ticks", "waits", "windows"))
    # What was on its way then, up to a second, is written still.
    assert ticks["tick_start"].dt.epoch("ns").max() < first + 10**9
    assert waits["window_start"].dt.epoch("ns").max() < second + 10**9
    longer = windows.filter(windows["ticks"] == 240)
    usual = windows.filter(windows["window_tick"] < longer["window_tick"].min())
    assert longer["window_tick"].min() == (usual["window_tick"] + usual["ticks"]).max()
    assert longer["window_start"].dt.epoch("ns").min() > third - 5 * 10**9
    # All time is in there all the same.
    assert result.manifest.totals.records_unaccounted == 0
    of_busy = windows.filter(windows["cgroup_id"] == busy.id)
    assert of_busy["cpu_time_ns"].sum() == result.manifest.totals.sums["cpu_time_ns"] - (
        windows.filter(windows["cgroup_id"] != busy.id, windows["cgroup_id"] != 0)["cpu_time_ns"].sum()
    )

    texts = [caveat.text for caveat in incomplete(open_recording([result.output])) if caveat.id == "left-out"]
    assert len(texts) == len(PARTS)
    assert all(text.startswith(part) for text, part in zip(texts, PARTS, strict=True))
