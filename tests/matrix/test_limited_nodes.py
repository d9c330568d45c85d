# SPDX-License-Identifier: Apache-2.0
"""Nodes that cannot be traced, or not in full, as boot options make them: the missing thing is told by its name."""

import json
from typing import TYPE_CHECKING

import pytest
from guests import PYTEST

if TYPE_CHECKING:
    from conftest import Ended

pytestmark = pytest.mark.root

REFUSED = """
tracer run --duration 1s --output /results/output; echo "exit code $?"
tracer doctor >/dev/null; echo "exit code $?"
"""
LOCKED_DOWN = f"tracer doctor --json >/results/doctor.json; {' '.join(PYTEST)} -m core tests/kernel/test_accounting.py"


@pytest.mark.guest("--boot-option", "guest.cgroup=v1", "--", "sh", "-c", REFUSED)
def test_a_node_with_version_1_cgroups_only_is_refused(guest: "Ended") -> None:
    said, *codes = guest.said.splitlines()
    assert codes == ["exit code 3", "exit code 3"]
    assert said.startswith("tracer: ")
    assert "cgroup2" in said
    assert list(guest.results.iterdir()) == []


@pytest.mark.guest("--boot-option", "lockdown=confidentiality", "--", "sh", "-c", LOCKED_DOWN)
def test_a_locked_down_kernel_costs_the_events_of_cgroups_only(guest: "Ended") -> None:
    tests = guest.tests
    assert tests.run >= 2
    assert (tests.failed, tests.skipped) == (0, 0)
    checks = json.loads((guest.results / "doctor.json").read_text())["checks"]
    statuses = {check["id"]: check["status"] for check in checks}
    assert "failed" not in statuses.values()
    assert (statuses["bpf-load"], statuses["cgroup-events"]) == ("ok", "warning")
