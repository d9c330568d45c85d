# SPDX-License-Identifier: Apache-2.0
"""A node as it is: systemd and pure cgroup v2, with containerd, podman and Docker of Debian. Run in such a guest."""

import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from live_node import Tracer

sys.path.append(str(Path(__file__).parents[1] / "node"))
from busybox_image import IMAGE, write_image_archive

pytestmark = pytest.mark.root

POD_UID = "12345678-1234-1234-1234-123456789abc"
CONTAINERD_ID = "c" * 64
# What runs in each; more would leave the tracer little of two emulated CPUs.
WORK = "while :; do sleep 1; done"
RUN = f"--network none {IMAGE} sh -c '{WORK}'"
CONTROLLERS = {"cpu", "cpuset", "io", "memory", "pids"}
USER = "someone"
QUADLET = f"""
[Container]
ContainerName=by-quadlet
Image={IMAGE}
Pull=never
Network=none
Exec=sh -c '{WORK}'
"""


def sh(command: str) -> str:
    """Runs a command that is to succeed; what it printed."""
    ran = subprocess.run(["sh", "-ec", command], capture_output=True, text=True)
    assert ran.returncode == 0, f"{command}: {ran.stderr}"
    return ran.stdout.strip()


def as_user(command: str) -> str:
    """The same as a user, in the session that systemd keeps for that user without a log-in."""
    run = f"/run/user/{pwd.getpwnam(USER).pw_uid}"
    session = f"XDG_RUNTIME_DIR={run} DBUS_SESSION_BUS_ADDRESS=unix:path={run}/bus"
    return sh(f"cd /; runuser -u {USER} -- env {session} {command}")


@pytest.fixture(scope="module", autouse=True)
def images(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each runtime has the image, and there is a user who may run containers."""
    directory = tmp_path_factory.mktemp("image")
    archive = directory / "image.tar"
    write_image_archive(Path(shutil.which("busybox") or ""), archive)
    sh("systemctl start docker containerd")
    sh(f"docker load -i {archive}; podman load -i {archive}; ctr -n k8s.io images import {archive}")
    sh(f"useradd --create-home {USER}; loginctl enable-linger {USER}")
    shutil.copy(archive, f"/home/{USER}/image.tar")
    as_user(f"podman load -i /home/{USER}/image.tar")


def remove_containers() -> None:
    """What they do takes the time of those that come after them."""
    sh("docker rm -f $(docker ps -q); podman rm -fa -t 0")
    as_user("podman rm -fa -t 0")


def names_in(output: Path) -> set[str | None]:
    """Of containers, in the windows that are in closed files."""
    files = [pl.read_parquet(file, columns=["container_name"]) for file in output.glob("windows/**/*.parquet")]
    return {name for rows in files for name in rows["container_name"].unique()}


def test_all_are_named(start_tracer: Callable[..., Tracer]) -> None:
    assert sh("stat -f -c %T /sys/fs/cgroup") == "cgroup2fs"
    assert set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()) >= CONTROLLERS

    docker = sh(f"docker run -d --name by-docker {RUN}")
    podman = sh(f"podman run -d --name by-podman {RUN}")
    pod = sh("podman pod create --infra=false --name a-pod")
    in_pod = sh(f"podman run -d --pod a-pod --name in-a-pod {RUN}")
    by_user = as_user(f"podman run -d --name by-a-user {RUN}")
    other_storage = f"podman --root /home/{USER}/data/storage"
    as_user(f"{other_storage} load -i /home/{USER}/image.tar")
    elsewhere = as_user(f"{other_storage} run -d --name elsewhere {RUN}")
    units = Path("/etc/containers/systemd")
    units.mkdir(parents=True, exist_ok=True)
    (units / "web.container").write_text(QUADLET)
    sh("systemctl daemon-reload; systemctl start web.service")
    quadlet = sh("podman inspect --format '{{.Id}}' by-quadlet")
    pod_slice = f"kubepods-besteffort-pod{POD_UID.replace('-', '_')}.slice"
    sh(
        f"ctr -n k8s.io run -d --runc-systemd-cgroup --cgroup {pod_slice}:cri-containerd:{CONTAINERD_ID} "
        f"{IMAGE} {CONTAINERD_ID} sh -c '{WORK}'"
    )
    sh(f"systemd-run --unit demo.service sh -c '{WORK}'")
    session = subprocess.Popen(["runuser", "-l", USER, "-c", WORK], stdin=subprocess.DEVNULL)
    try:
        result = start_tracer("--duration", "20s").result()
    finally:
        session.kill()
        session.wait()

    windows = result.table("windows")
    print(windows.select("cgroup_kind", "runtime", "container_name", "cgroup_path").unique().to_dicts())
    assert windows.filter(cgroup_kind="unknown").is_empty()
    names = set(windows.select("cgroup_kind", "runtime", "container_id", "container_name").unique().rows())
    assert {
        ("container", "docker", docker, "by-docker"),
        ("container", "podman", podman, "by-podman"),
        ("container", "podman", in_pod, "in-a-pod"),
        ("container", "podman", by_user, "by-a-user"),
        ("container", "podman", elsewhere, "elsewhere"),
        ("container", "podman", quadlet, "by-quadlet"),
    } <= names
    paths = dict(windows.filter(pl.col("container_id").is_not_null()).select("container_id", "cgroup_path").rows())
    assert f"/web.service/libpod-payload-{quadlet}" in paths[quadlet]
    assert f"/user@{pwd.getpwnam(USER).pw_uid}.service/" in paths[by_user]
    assert "libpod_pod_" in paths[in_pod]
    assert set(windows.filter(container_id=in_pod).select("pod_name", "pod_uid").rows()) == {("a-pod", pod)}
    assert ("container", "containerd", CONTAINERD_ID) in {row[:3] for row in names}
    of_containerd = windows.filter(container_id=CONTAINERD_ID)
    assert set(of_containerd["pod_uid"]) == {POD_UID}
    assert set(of_containerd["qos_class"]) == {"besteffort"}
    units_found = set(windows.filter(cgroup_kind="unit")["cgroup_path"])
    assert "/system.slice/demo.service" in units_found
    assert any(path.startswith("/user.slice/") and path.endswith(".scope") for path in units_found)
    assert not [path for path in windows.filter(cgroup_kind="container")["cgroup_path"] if "conmon" in path]
    sh("systemctl stop web demo; ctr -n k8s.io tasks kill -s 9 " + CONTAINERD_ID)
    remove_containers()
    as_user(f"{other_storage} rm -fa -t 0")


def test_the_renamed_have_both_names(start_tracer: Callable[..., Tracer]) -> None:
    containers = {
        "docker": sh(f"docker run -d --name docker-old {RUN}"),
        "podman": sh(f"podman run -d --name podman-old {RUN}"),
        "user": as_user(f"podman run -d --name user-old {RUN}"),
    }
    tracer = start_tracer("--rotate", "2s")
    tracer.wait_until_tracing()
    while not names_in(tracer.output).issuperset(f"{runtime}-old" for runtime in containers):
        time.sleep(1)
    begun = datetime.now(UTC)
    sh("docker rename docker-old docker-new; podman rename podman-old podman-new")
    as_user("podman rename user-old user-new")
    ended = datetime.now(UTC)
    while not names_in(tracer.output).issuperset(f"{runtime}-new" for runtime in containers):
        time.sleep(1)
    time.sleep(2)
    tracer.process.terminate()
    result = tracer.result()

    windows, lifecycle = result.table("windows"), result.table("lifecycle")
    for runtime, container_id in containers.items():
        rows = windows.filter(container_id=container_id)
        before = rows.filter(pl.col("window_start") < begun)["container_name"]
        # Emulated, it may take longer to find the first names than rows wait for them.
        assert before.drop_nulls().unique().to_list() == [f"{runtime}-old"]
        named = lifecycle.filter(pl.col("event") == "named", pl.col("cgroup_path") == rows["cgroup_path"][0])
        assert named.sort("time")["container_name"].to_list() == [f"{runtime}-old", f"{runtime}-new"]
        renamed = named["time"].max()
        assert begun - timedelta(seconds=1) <= renamed <= ended + timedelta(seconds=1)
        # Rows that were there before the rename was seen keep the old name; each later one has the new one.
        later = rows.filter(pl.col("window_start") >= renamed).sort("window_start")["container_name"].to_list()
        assert later[-1] == f"{runtime}-new"
        assert later == sorted(later, reverse=True)
    remove_containers()
