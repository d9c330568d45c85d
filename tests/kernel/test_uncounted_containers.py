# SPDX-License-Identifier: Apache-2.0
"""Processes that are in a container's cgroup of version 1 and in somebody else's of version 2, as on hybrid nodes.

A hierarchy of version 1 without controllers, of the test's own, is enough for that.
"""

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_node import SPIN, Cgroup, Tracer

from tracer.containers.version1 import is_hybrid

pytestmark = pytest.mark.root

DOCTOR = "import sys; from tracer.cli.main import main; sys.argv = ['tracer', 'doctor', '--json']; main()"


@pytest.fixture
def hierarchy(tmp_path: Path) -> Iterator[Path]:
    """One of the test's own."""
    mount_point = tmp_path / "version1"
    mount_point.mkdir()
    name = f"name=tracer-test-{uuid.uuid4().hex[:16]}"
    mount = ["mount", "-t", "cgroup", "-o", f"none,{name}", "none", mount_point]
    subprocess.run(mount, check=True)
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", mount_point], check=True)
        while not is_gone(name):
            # The kernel had not yet let go of the last cgroup that was removed, so that the hierarchy stayed.
            subprocess.run(mount, check=True)
            time.sleep(0.5)
            subprocess.run(["umount", mount_point], check=True)


def is_gone(hierarchy: str) -> bool:
    """Whether the kernel ends it within its usual time."""
    for _ in range(40):
        if hierarchy not in Path("/proc/self/cgroup").read_text():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def service(own_cgroup: Path) -> Iterator[Cgroup]:
    """Where the runtime itself would be."""
    service = Cgroup(own_cgroup / "containerd.service")
    yield service
    service.stop()


@pytest.fixture
def start_container(hierarchy: Path, service: Cgroup) -> Iterator[Callable[[], str]]:
    """Starts a process in `/docker/<id>` of version 1, and in the runtime's own cgroup of version 2; that id."""
    made: list[Path] = []

    def start() -> str:
        container_id = uuid.uuid4().hex * 2
        made.append(hierarchy / "docker" / container_id)
        made[-1].mkdir(parents=True)
        service.start(f'echo $$ > "{made[-1]}/cgroup.procs" && {SPIN}')
        while not (made[-1] / "cgroup.procs").read_text():
            time.sleep(0.01)
        return container_id

    yield start
    service.stop()
    for version1 in made:
        version1.rmdir()
    if made:
        made[0].parent.rmdir()


def told(container_id: str, service: Cgroup) -> str:
    """Of this container; there may be others."""
    return f"{container_id[:12]} is counted as /{service.path.parent.name}/{service.path.name}"


def version1_check() -> dict[str, str]:
    finished = subprocess.run(
        [sys.executable, "-c", DOCTOR], stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    checks: list[dict[str, str]] = json.loads(finished.stdout)["checks"]
    (check,) = (check for check in checks if check["id"] == "cgroup-version1")
    return check


def test_the_doctor_warns(start_container: Callable[[], str], service: Cgroup) -> None:
    assert is_hybrid()
    assert service.path.parent.name not in version1_check()["found"]
    container_id = start_container()
    check = version1_check()
    assert check["status"] == "warning"
    assert told(container_id, service) in check["found"]
    assert "systemd.unified_cgroup_hierarchy=1" in check["remedy"]


def test_the_manifest_notes_it(
    start_container: Callable[[], str], service: Cgroup, start_tracer: Callable[..., Tracer]
) -> None:
    first = start_container()
    tracer = start_tracer("--nri", "off")
    tracer.wait_until_tracing()
    time.sleep(1)
    # Found when the run ends.
    second = start_container()
    time.sleep(1)
    tracer.process.terminate()
    result = tracer.result()
    for container_id in (first, second):
        assert len([note for note in result.manifest.notes if told(container_id, service) in note]) == 1
    # And so it is.
    windows = result.table("windows")
    assert windows.filter(windows["cgroup_id"] == service.id)["cpu_time_ns"].sum() > 0
    assert first not in windows["container_id"].to_list()
