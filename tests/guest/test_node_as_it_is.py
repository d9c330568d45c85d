# SPDX-License-Identifier: Apache-2.0
"""A node as it is: systemd and pure cgroup v2, with containerd, podman and Docker of Debian. Run in such a guest."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from live_node import Tracer

sys.path.append(str(Path(__file__).parents[1] / "node"))
from busybox_image import IMAGE, write_image_archive

pytestmark = pytest.mark.root

POD_UID = "12345678-1234-1234-1234-123456789abc"
CONTAINERD_ID = "c" * 64
# What runs in each; spinning would leave the tracer a sixth of two emulated CPUs.
WORK = "while :; do sleep 0.1; done"
CONTROLLERS = {"cpu", "cpuset", "io", "memory", "pids"}


def sh(command: str) -> str:
    """Runs a command that is to succeed; what it printed."""
    ran = subprocess.run(["sh", "-ec", command], capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout.strip()


def test_all_are_named(tmp_path: Path, start_tracer: Callable[..., Tracer]) -> None:
    assert sh("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs"
    assert set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()) >= CONTROLLERS
    sh("systemctl start docker containerd")
    archive = tmp_path / "image.tar"
    write_image_archive(Path(shutil.which("busybox") or ""), archive)
    sh(f"docker load -i {archive}; podman load -i {archive}; ctr -n k8s.io images import {archive}")
    sh("useradd --create-home someone")

    docker = sh(f"docker run -d --name by-docker --network none {IMAGE} sh -c '{WORK}'")
    podman = sh(f"podman run -d --name by-podman --network none {IMAGE} sh -c '{WORK}'")
    pod_slice = f"kubepods-besteffort-pod{POD_UID.replace('-', '_')}.slice"
    sh(
        f"ctr -n k8s.io run -d --runc-systemd-cgroup --cgroup {pod_slice}:cri-containerd:{CONTAINERD_ID} "
        f"{IMAGE} {CONTAINERD_ID} sh -c '{WORK}'"
    )
    sh(f"systemd-run --unit demo.service sh -c '{WORK}'")
    session = subprocess.Popen(["runuser", "-l", "someone", "-c", WORK], stdin=subprocess.DEVNULL)
    try:
        result = start_tracer("--duration", "20s").result()
    finally:
        session.kill()
        session.wait()

    windows = result.table("windows")
    print(windows.select("cgroup_kind", "runtime", "container_name", "cgroup_path").unique().to_dicts())
    assert windows.filter(cgroup_kind="unknown").is_empty()
    names = set(windows.select("cgroup_kind", "runtime", "container_id", "container_name").unique().rows())
    assert {("container", "docker", docker, "by-docker"), ("container", "podman", podman, "by-podman")} <= names
    assert ("container", "containerd", CONTAINERD_ID) in {row[:3] for row in names}
    of_containerd = windows.filter(container_id=CONTAINERD_ID)
    assert set(of_containerd["pod_uid"]) == {POD_UID}
    assert set(of_containerd["qos_class"]) == {"besteffort"}
    units = set(windows.filter(cgroup_kind="unit")["cgroup_path"])
    assert "/system.slice/demo.service" in units
    assert any(path.startswith("/user.slice/") and path.endswith(".scope") for path in units)
