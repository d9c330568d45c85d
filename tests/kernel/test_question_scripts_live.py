# SPDX-License-Identifier: Apache-2.0
"""The scripts that people copy, on a recording of this node."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from live_node import SPIN, Cgroup, Tracer
from question_scripts import SCRIPTS

pytestmark = pytest.mark.root


def test_they_answer_with_and_without_counters(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--duration", "3s", "--ticks")
    tracer.wait_until_tracing()
    new_container().start(SPIN)
    result = tracer.result()
    counted = all(event.counted for event in result.manifest.events)
    for script in SCRIPTS:
        answer = subprocess.run([sys.executable, script, result.output], capture_output=True, text=True, check=False)
        assert "Traceback" not in answer.stderr
        if script.stem == "memory_against_cpi":
            assert answer.stderr.startswith("no container ran in 8 seconds")
        else:
            assert answer.returncode == 0
            assert ("CPI" if counted else "STRETCH") in answer.stdout
        if script.stem == "burst_timeline":
            # Fewer than 40 ticks if the recording begins or ends with the burst.
            assert len(answer.stdout.splitlines()) > 25
