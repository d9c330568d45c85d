# SPDX-License-Identifier: Apache-2.0
"""The node that the tests of this directory run on is what they take it for."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from busybox_image import IMAGE
from containerd_node import Container, ContainerdNode, Pod

from tracer.containers.cgroupfs import find_cgroup2_mount

pytestmark = pytest.mark.root

START_A_NODE_AND_WAIT = """
import signal, sys
from pathlib import Path
from containerd_node import ContainerdNode

with ContainerdNode(Path(sys.argv[1])) as node:
    node.run_container(node.run_pod("web"), "main", "sleep", "infinity")
    print(node.cgroup, flush=True)
    signal.pause()
"""


def only_process(cgroup: Path) -> int:
    """Its process id on the host."""
    (pid,) = (cgroup / "cgroup.procs").read_text().split()
    return int(pid)


def cgroup_of(pid: int) -> str:
    """A process's path in the version 2 hierarchy, as the host sees it."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    (path,) = (line.removeprefix("0::") for line in lines if line.startswith("0::"))
    return path


def annotations(bundle: Path) -> dict[str, str]:
    config: dict[str, Any] = json.loads((bundle / "config.json").read_text())
    return {name: str(value) for name, value in config["annotations"].items()}


def processes_below(cgroup: Path) -> list[int]:
    return [int(pid) for procs in cgroup.rglob("cgroup.procs") for pid in procs.read_text().split()]


def is_running(pid: int) -> bool:
    """False for one that is gone, or ended and not yet waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_containers_of_a_pod_run_in_cgroups_of_their_own(
    containerd: ContainerdNode, run_pod: Callable[..., Pod]
) -> None:
    pod = run_pod("web", namespace="shop")
    containers = [containerd.run_container(pod, name, "sleep", "infinity") for name in ("main", "sidecar")]

    assert pod.id in containerd.running_pods()
    assert {container.id for container in containers} <= containerd.running_containers()
    for id in (pod.id, *(container.id for container in containers)):
        cgroup = containerd.cgroup / "kubepods" / "burstable" / f"pod{pod.uid}" / id
        on_the_host = f"/{cgroup.relative_to(find_cgroup2_mount())}"
        assert cgroup_of(only_process(cgroup)) == on_the_host
    assert len({container.cgroup.stat().st_ino for container in containers} | {pod.cgroup.stat().st_ino}) == 3


@pytest.mark.parametrize(("qos_class", "parent"), [("guaranteed", "kubepods"), ("besteffort", "kubepods/besteffort")])
def test_pods_are_grouped_by_quality_of_service(
    containerd: ContainerdNode, run_pod: Callable[..., Pod], qos_class: str, parent: str
) -> None:
    uid = str(uuid.uuid4())
    pod = run_pod("web", uid=uid, qos_class=qos_class)
    assert pod.cgroup == containerd.cgroup / parent / f"pod{uid}"
    assert only_process(pod.cgroup / pod.id)


def test_the_bundle_on_the_host_names_the_pod(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    pod = run_pod("web", namespace="shop")
    container = containerd.run_container(pod, "main", "sleep", "infinity")
    of_the_pod = {
        "io.kubernetes.cri.sandbox-id": pod.id,
        "io.kubernetes.cri.sandbox-name": "web",
        "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-uid": pod.uid,
    }

    sandbox = of_the_pod | {"io.kubernetes.cri.container-type": "sandbox"}
    assert sandbox.items() <= annotations(containerd.bundle(pod.id)).items()
    assert annotations(containerd.bundle(container.id)) == of_the_pod | {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.container-name": "main",
        "io.kubernetes.cri.image-name": IMAGE,
    }


def test_exec_runs_in_the_container(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    container = containerd.run_container(run_pod("web"), "main", "sleep", "infinity")
    # Paths of cgroups are seen from the container's own, which is the root of its cgroup namespace.
    assert "0::/" in containerd.exec_in(container, "cat", "/proc/self/cgroup").splitlines()
    # Nothing of the host's root.
    assert containerd.exec_in(container, "ls", "/").split() == ["bin", "dev", "etc", "proc", "sys"]
    with pytest.raises(RuntimeError, match="ended with 3"):
        containerd.exec_in(container, "sh", "-c", "exit 3")


def test_a_container_can_end_soon(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    pod = run_pod("batch")
    container = containerd.run_container(pod, "main", "sh", "-c", "sleep 0.02; exit 3")
    assert containerd.wait_for_exit(container).exit_code == 3
    assert not container.cgroup.exists()
    assert pod.id in containerd.running_pods()


def test_a_container_starts_stops_and_goes(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    container = containerd.create_container(run_pod("web"), "main", "sleep", "infinity")
    assert container.id not in containerd.running_containers()
    assert not container.cgroup.exists()
    containerd.start_container(container)
    assert container.id in containerd.running_containers()
    containerd.stop_container(container)
    assert container.id not in containerd.running_containers()
    assert not container.cgroup.exists()
    containerd.remove_container(container)
    assert not containerd.bundle(container.id).exists()


def test_a_removed_pod_leaves_no_cgroup(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    pod = run_pod("web")
    containerd.run_container(pod, "main", "sleep", "infinity")
    containerd.remove_pod(pod)
    assert not pod.cgroup.exists()
    assert not containerd.bundle(pod.id).exists()
    assert pod.id not in containerd.running_pods()


def test_pods_outlive_a_restart_of_containerd(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    pod = run_pod("web")
    container = containerd.run_container(pod, "main", "sleep", "infinity")
    pid = only_process(container.cgroup)
    containerd.restart_containerd()
    assert pod.id in containerd.running_pods()
    assert container.id in containerd.running_containers()
    assert only_process(container.cgroup) == pid
    assert containerd.exec_in(container, "echo", "still here") == "still here\n"


def test_twenty_pods_come_and_go_at_once(containerd: ContainerdNode, run_pod: Callable[..., Pod]) -> None:
    def start(number: int) -> Container:
        return containerd.run_container(run_pod(f"burst-{number}"), "main", "sleep", "infinity")

    before = containerd.running_pods()
    with ThreadPoolExecutor(4) as pool:
        containers = list(pool.map(start, range(20)))
        assert {container.id for container in containers} <= containerd.running_containers()
        assert len({container.cgroup.stat().st_ino for container in containers}) == 20
        list(pool.map(containerd.remove_pod, (container.pod for container in containers)))
    assert containerd.running_pods() == before
    assert not any(container.pod.cgroup.exists() for container in containers)


def test_nri_listens_on_the_host(containerd: ContainerdNode) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(containerd.nri_socket))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_process_that_started_the_node(tmp_path: Path, end: signal.Signals) -> None:
    control = find_cgroup2_mount() / "cgroup.subtree_control"
    enabled = control.read_text()
    process = subprocess.Popen(
        [sys.executable, "-c", START_A_NODE_AND_WAIT, tmp_path / "node"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        cgroup = Path(process.stdout.readline().strip())
        processes = processes_below(cgroup)
        # The node's first process, containerd, the shim, the sandbox and the container.
        assert len(processes) == 5
        # The machine's controllers are none of the node's business.
        assert control.read_text() == enabled
        process.send_signal(end)
        process.wait(30)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not cgroup.exists() and not any(is_running(pid) for pid in processes))
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
