# SPDX-License-Identifier: Apache-2.0
"""The report on a real run of this node."""

from collections.abc import Callable
from pathlib import Path

import pytest
from live_node import SPIN, Cgroup, Tracer

from tracer.analysis.recording import open_recording
from tracer.analysis.report import report

pytestmark = pytest.mark.root


def test_it_says_what_it_knows_and_what_it_cannot(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup], tmp_path: Path
) -> None:
    output = tmp_path / "results"
    new_container().start(SPIN)
    tracer = start_tracer("--duration", "4s", "--ticks", output=output)
    assert tracer.end() == 0
    recording = open_recording([output])
    found = report(recording)
    # No file of it is taken for damaged.
    assert recording.notes == []
    assert found.activity[0].cpu_share_of_node > 0
    assert "container" in {one.container.kind for one in found.activity}
    assert found.headline
    # What it says of waits is measured, however short it was.
    assert sum(one.wait_ns for one in found.time_spent) > 0
    has_counters = all(event.counted for manifest in recording.manifests for event in manifest.events)
    if not has_counters:
        assert found.basis == "cpu-time"
        assert found.victims == []
        assert "no-llc-counter" in {caveat.id for caveat in found.caveats}
