# SPDX-License-Identifier: Apache-2.0
"""What this node's kernel told, as a trace for Perfetto."""

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from live_node import SPIN, Cgroup, Tracer
from perfetto_reader import read_trace

from tracer.analysis.labels import container_label
from tracer.analysis.perfetto import export_perfetto
from tracer.analysis.recording import open_recording

pytestmark = pytest.mark.root


def test_a_busy_container_is_on_its_cpus(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup], tmp_path: Path
) -> None:
    container = new_container()
    container.start(SPIN)
    result = start_tracer("--ticks", "--duration", "1s").result()
    ticks = result.table("ticks").filter(pl.col("cgroup_id") == container.id)
    (label,) = ticks.select(container_label().unique()).to_series()
    export_perfetto(open_recording([result.output]), tmp_path / "t")
    read = read_trace(tmp_path / "t")
    on_cpus = [one for one in read.slices if one.name == label]
    assert sum(one.end_ns - one.begin_ns for one in on_cpus) == ticks["cpu_time_ns"].sum() > 0
    assert {one.track for one in on_cpus} <= {("CPUs", f"CPU {cpu}") for cpu in ticks["cpu"].unique()}
    assert max(value for _, value in read.counters["Containers", label, "CPU"]) == pytest.approx(1, abs=0.05)
    counted = {event.column for event in result.manifest.events if event.counted}
    assert (("Containers", label, "CPI") in read.counters) == ({"cycles", "instructions"} <= counted)
