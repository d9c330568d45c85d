# SPDX-License-Identifier: Apache-2.0
"""Which container runtimes there are, and which cgroup drivers they and the kubelet use.

A driver decides how a container's cgroup is called and who makes it: systemd (`….slice/cri-containerd-<id>.scope`) or
the runtime itself (cgroupfs, `…/<id>`). A node on which runtime and kubelet differ works badly, so both are told.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from tracer.containers.identity import identify
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.runtime_state.containerd import STATE_DIRECTORIES

CgroupDriver = Literal["systemd", "cgroupfs"]

# What each makes below /run, which is empty after boot: CRI-O its sockets' directory, Docker its `exec-root`, podman
# the `tmp_dir` of its containers.conf.
_DIRECTORIES = (
    *(("containerd", directory) for directory in STATE_DIRECTORIES),
    ("cri-o", Path("/run/crio")),
    ("docker", Path("/run/docker")),
    ("podman", Path("/run/libpod")),
)


class Runtime(msgspec.Struct, frozen=True):
    """A runtime that has run since boot, or has containers now.

    `directories` are those of its own that exist, `cgroup_drivers` those of its containers that exist.
    """

    name: str
    directories: list[str]
    cgroup_drivers: list[CgroupDriver]


class CgroupTree(msgspec.Struct, frozen=True):
    """The cgroup2 tree. `controllers` is None where the root does not say, `kubelet_driver` where there is no pod."""

    mount_point: str
    controllers: list[str] | None
    kubelet_driver: CgroupDriver | None


def find_runtimes(paths: Iterable[str], root: Path = Path("/")) -> list[Runtime]:
    """By name. `paths` are those of all cgroups that exist, `root` is the node's file system."""
    directories: dict[str, list[str]] = defaultdict(list)
    for name, directory in _DIRECTORIES:
        if (root / str(directory).lstrip("/")).is_dir():
            directories[name].append(str(directory))
    # A path without a prefix tells of no runtime. Its state knows, and one container of each kind is enough to ask.
    examples: dict[tuple[str, CgroupDriver], str] = {}
    for path in paths:
        identity = identify(path)
        if identity.runtime is not None and identity.container_id is not None and not identity.subpath:
            examples.setdefault((identity.runtime, _container_driver(path)), identity.container_id)
    state = RuntimeState(root)
    drivers: dict[str, set[CgroupDriver]] = defaultdict(set)
    for (guess, driver), container_id in examples.items():
        names = state.names(container_id, guess)
        drivers[names.runtime if names else guess].add(driver)
    return [
        Runtime(name, directories[name], sorted(drivers[name])) for name in sorted(directories.keys() | drivers.keys())
    ]


def read_cgroup_tree(mount_point: Path, paths: Iterable[str]) -> CgroupTree:
    """The tree mounted there; `paths` are those of all its cgroups."""
    try:
        controllers = (mount_point / "cgroup.controllers").read_text(errors="replace").split()
    except OSError:
        controllers = None
    pods = (path for path in paths if identify(path).kind == "pod")
    pod = next(pods, None)
    return CgroupTree(
        mount_point=str(mount_point),
        controllers=controllers,
        kubelet_driver=None if pod is None else "systemd" if pod.endswith(".slice") else "cgroupfs",
    )


def _container_driver(path: str) -> CgroupDriver:
    """systemd's are scopes; only the sandboxes that CRI-O makes itself are directories in a slice."""
    parent, _, name = path.rpartition("/")
    in_slice = parent.endswith(".slice") and name.startswith("crio-")
    return "systemd" if name.endswith(".scope") or in_slice else "cgroupfs"
