# SPDX-License-Identifier: Apache-2.0
"""Which container runtimes there are, and which cgroup drivers they and the kubelet use.

A driver decides how a container's cgroup is called and who makes it: systemd (`….slice/cri-containerd-<id>.scope`) or
the runtime itself (cgroupfs, `…/<id>`). A node on which runtime and kubelet differ works badly, so both are told.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracer.containers.forms import CgroupDriver, match_form
from tracer.containers.identity import ContainerKey, identify, path_components, recognize
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.runtime_state.containerd import STATE_DIRECTORIES

# What each makes below /run, which is empty after boot: CRI-O its sockets' directory, Docker its `exec-root`, podman
# the `tmp_dir` of its containers.conf.
_DIRECTORIES = (
    *(("containerd", directory) for directory in STATE_DIRECTORIES),
    ("cri-o", Path("/run/crio")),
    ("docker", Path("/run/docker")),
    ("podman", Path("/run/libpod")),
)

_MOST_EXAMPLES = 16


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
    drivers: dict[str, set[CgroupDriver]] = defaultdict(set)
    # Of each way to call containers a few are enough. Without a prefix it tells of no runtime, which state may know.
    examples: dict[tuple[str | None, CgroupDriver], list[ContainerKey]] = defaultdict(list)
    for path in paths:
        identity, key = recognize(path)
        driver = _container_driver(path)
        if key is not None and driver is not None:
            examples[identity.runtime, driver].append(key)
        elif identity.runtime is not None and driver is not None:
            drivers[identity.runtime].add(driver)
    state = RuntimeState(root)
    for (told, driver), keys in examples.items():
        answers = (state.names(key, told) for key in keys[:_MOST_EXAMPLES])
        names = next(filter(None, answers), None)
        runtime = told if names is None else names.runtime
        if runtime is not None:
            drivers[runtime].add(driver)
    return [
        Runtime(name, directories[name], sorted(drivers[name])) for name in sorted(directories.keys() | drivers.keys())
    ]


def read_cgroup_tree(mount_point: Path, paths: Iterable[str]) -> CgroupTree:
    """The tree mounted there; `paths` are those of all its cgroups."""
    try:
        controllers = (mount_point / "cgroup.controllers").read_text(errors="replace").split()
    except OSError:
        controllers = None
    # Those of podman and ECS have no class.
    pods = (path for path in paths if (identity := identify(path)).kind == "pod" and identity.qos_class is not None)
    pod = next(pods, None)
    return CgroupTree(
        mount_point=str(mount_point),
        controllers=controllers,
        kubelet_driver=None if pod is None else "systemd" if pod.endswith(".slice") else "cgroupfs",
    )


def _container_driver(path: str) -> CgroupDriver | None:
    """The driver that made a container's or sandbox's own cgroup, as far as its name tells."""
    components = ["", *path_components(path)]
    match = match_form(*components[-2:]) if len(components) > 1 else None
    return match[0].driver if match is not None and match[0].kind in ("container", "sandbox") else None
