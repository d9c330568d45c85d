# SPDX-License-Identifier: Apache-2.0
"""Which runtimes a node has, and by which driver their cgroups are made."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.containers.forms import CgroupDriver
from tracer.containers.runtimes import CgroupTree, Runtime, find_runtimes, read_cgroup_tree

ID = "0123456789abcdef" * 4
UID = "8f0d4b7e-6f3c-4c86-9d53-0e5d3a6f1c11"
POD_SLICE = f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"
POD_DIRECTORY = f"/kubepods/burstable/pod{UID}"


@pytest.mark.parametrize(
    ("path", "runtime", "driver"),
    [
        (f"{POD_SLICE}/cri-containerd-{ID}.scope", "containerd", "systemd"),
        (f"{POD_SLICE}/crio-{ID}.scope/container", "cri-o", None),
        (f"{POD_SLICE}/crio-{ID}.scope", "cri-o", "systemd"),
        (f"{POD_SLICE}/crio-{ID}", "cri-o", "systemd"),
        (f"{POD_DIRECTORY}/crio-{ID}", "cri-o", "cgroupfs"),
        (f"{POD_DIRECTORY}/{ID}", None, None),
        (f"/system.slice/docker-{ID}.scope", "docker", "systemd"),
        (f"/docker/{ID}", "docker", "cgroupfs"),
        (f"/machine.slice/libpod-{ID}.scope", "podman", "systemd"),
        (f"/libpod_parent/libpod-{ID}", "podman", "cgroupfs"),
        # A runtime that was not told that the kubelet uses systemd.
        (f"/system.slice/kubepods-pod{UID.replace('-', '_')}.slice:cri-containerd:{ID}", "containerd", "cgroupfs"),
        (f"/machine.slice/libpod-conmon-{ID}.scope", "podman", None),
        # Is called so with either driver.
        (f"/system.slice/web.service/libpod-payload-{ID}", "podman", None),
        (f"/machine.slice/machine-libpod_pod_{ID}.slice", "podman", None),
        (f"/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope", "podman", "systemd"),
        (f"/ecstasks.slice/ecstasks-{ID[:32]}.slice", None, None),
        (f"/nomad.slice/share.slice/{UID}.web.scope", "nomad", "cgroupfs"),
        (f"/nomad/{UID}.web", "nomad", "cgroupfs"),
        ("/lxc.payload.web", "lxc", "cgroupfs"),
        ("/lxc.monitor.web", "lxc", None),
        ("/machine.slice/machine-web.scope", "systemd-nspawn", "systemd"),
        ("/machine.slice/systemd-nspawn@web.service", "systemd-nspawn", "systemd"),
        ("/machine.slice/machine-qemu\\x2d1\\x2dweb.scope", "qemu", "systemd"),
        ("/machine/qemu-1-web.libvirt-qemu", "qemu", "cgroupfs"),
    ],
)
def test_a_containers_path_shows_the_driver(
    tmp_path: Path, path: str, runtime: str | None, driver: CgroupDriver | None
) -> None:
    expected = [] if runtime is None or driver is None else [Runtime(runtime, [], [driver])]
    assert find_runtimes(["/", path], tmp_path) == expected


def test_the_state_knows_whose_a_container_without_a_prefix_is(tmp_path: Path) -> None:
    bundle = tmp_path / "run/containerd/io.containerd.runtime.v2.task/k8s.io" / ID
    bundle.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps({"annotations": {}}))
    # Among others that it does not have, such as those within containers.
    paths = [f"{POD_DIRECTORY}/{number:064x}" for number in range(5)]
    assert find_runtimes([*paths, f"{POD_DIRECTORY}/{ID}"], tmp_path) == [
        Runtime("containerd", ["/run/containerd"], ["cgroupfs"])
    ]


def test_a_runtime_without_containers_shows_by_its_directory(tmp_path: Path) -> None:
    for directory in ("run/crio", "run/k3s/containerd", "run/containerd"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "run/docker").write_text("no directory")
    assert find_runtimes([], tmp_path) == [
        Runtime("containerd", ["/run/containerd", "/run/k3s/containerd"], []),
        Runtime("cri-o", ["/run/crio"], []),
    ]


def test_a_runtime_can_have_both_drivers(tmp_path: Path) -> None:
    paths = [f"/docker/{ID}", f"/system.slice/docker-{ID}.scope"]
    assert find_runtimes(paths, tmp_path) == [Runtime("docker", [], ["cgroupfs", "systemd"])]


@given(paths=st.lists(st.text()))
def test_no_path_is_an_error(tmp_path_factory: pytest.TempPathFactory, paths: list[str]) -> None:
    assert find_runtimes(paths, tmp_path_factory.getbasetemp() / "missing") == []


@pytest.mark.parametrize(
    ("paths", "driver"),
    [
        (["/", "/kubepods.slice", POD_SLICE], "systemd"),
        (["/", POD_DIRECTORY], "cgroupfs"),
        (["/", "/kubepods"], None),
        ([f"/machine.slice/machine-libpod_pod_{ID}.slice"], None),
    ],
)
def test_a_pods_path_shows_the_kubelets_driver(tmp_path: Path, paths: list[str], driver: str | None) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory\n")
    assert read_cgroup_tree(tmp_path, paths) == CgroupTree(str(tmp_path), ["cpuset", "cpu", "memory"], driver)


def test_controllers_that_cannot_be_read_are_unknown(tmp_path: Path) -> None:
    assert read_cgroup_tree(tmp_path / "missing", []).controllers is None
