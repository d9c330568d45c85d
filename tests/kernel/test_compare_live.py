# SPDX-License-Identifier: Apache-2.0
"""`tracer compare` on recordings of this node."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from live_node import SPIN, Cgroup, Tracer

pytestmark = pytest.mark.root


def compare(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tracer.cli.main", "compare", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_container_that_went_to_sleep_used_less(
    start_tracer: Callable[..., Tracer], new_container: Callable[[], Cgroup]
) -> None:
    tracer = start_tracer("--duration", "9s")
    tracer.wait_until_tracing()
    container = new_container()
    # Busy for all of the first part, hardly at all from then on, and never gone.
    container.start(f"timeout 4 sh -c '{SPIN}'; while :; do sleep 0.01; done")
    result = tracer.result()
    parts = f"{result.output}@..+4s", f"{result.output}@+5s.."
    answer = compare(*parts, "--json")
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    (workload,) = (one for one in told["workloads"] if one["name"].endswith(container.path.name[:12]))
    assert workload["cores_before"] > 2 * workload["cores_after"]
    counted = all(event.counted for event in result.manifest.events)
    judged = compare(*parts, "--fail-on", "cpi>1000%")
    if counted:
        assert judged.returncode == 0
    else:
        assert {change["metric"] for change in workload["changes"]} <= {
            "cores", "context_switches_per_second", "wait_slowdown",
        }  # fmt: skip
        assert "no-cycles" in {caveat["id"] for caveat in told["caveats"]}
        assert judged.returncode == 2
        assert judged.stderr.startswith("tracer: error: --fail-on 'cpi>1000%' cannot be judged")
