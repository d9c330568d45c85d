# SPDX-License-Identifier: Apache-2.0
"""Who a cgroup is, told from its path alone.

Container runtimes, the kubelet and systemd each name cgroups in their own way, and these trees nest: a
Kubernetes node may itself be a container. The rules are read component by component, and the innermost
container wins. What a path cannot tell (names of pods and containers, their namespace) stays None.
"""

import os
import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from tracer.printable import printable

CgroupKind = Literal["container", "sandbox", "monitor", "pod", "qos", "unit", "mount", "other", "idle", "unknown"]


class Identity(msgspec.Struct, frozen=True):
    """Who a cgroup is; None is what is not known.

    kind: `sandbox` holds a pod's namespaces, `monitor` watches over a container (conmon), `pod` and `qos` are
    levels of the kubelet's tree, `unit` and `mount` are systemd's; `idle` is no cgroup but a CPU's idle time.
    subpath: path below the container's own cgroup, without a leading slash; empty for all other kinds.
    """

    kind: CgroupKind
    runtime: str | None = None
    container_id: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    qos_class: str | None = None
    subpath: str = ""


IDLE = Identity(kind="idle")
UNKNOWN = Identity(kind="unknown")

_RUNTIMES = {
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
}
_CONTAINER_ID = r"([0-9a-f]{64})"
_SCOPE = re.compile(rf"(cri-containerd|crio|docker|libpod|nerdctl)-{_CONTAINER_ID}\.scope")
_DIRECTORY = re.compile(rf"(crio|libpod)-{_CONTAINER_ID}")
# A systemd path given to a runtime that uses cgroupfs, which takes it for a directory's name.
_SLICE_TRIPLE = re.compile(rf"[^:]*:(cri-containerd|crio|docker):{_CONTAINER_ID}")
_BARE_ID = re.compile(_CONTAINER_ID)
_MONITOR = re.compile(rf"(crio|libpod)-conmon-{_CONTAINER_ID}(?:\.scope)?")

# A static pod's UID is a hash of 32 digits. systemd takes `-` for a level of slices, hence the `_`.
_POD_UID = r"([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_POD_SLICE = re.compile(rf"(?:.+-)?kubepods(?:-(burstable|besteffort))?-pod{_POD_UID}\.slice")
_POD_DIRECTORY = re.compile(rf"pod{_POD_UID}")
_QOS_SLICE = re.compile(r"(?:.+-)?kubepods(?:-burstable|-besteffort)?\.slice")
_QOS_DIRECTORIES = {"kubepods": "guaranteed", "burstable": "burstable", "besteffort": "besteffort"}

_UNIT_SUFFIXES = (".service", ".scope", ".slice", ".socket", ".swap")

_V1_CONTROLLER = (
    "(?:blkio|cpu|cpuacct|cpuset|debug|devices|freezer|hugetlb|memory|misc|net_cls|net_prio|perf_event|pids|rdma)"
)
_MOUNT_PREFIX = re.compile(rf"/sys/fs/cgroup(?:/(?:unified|systemd|{_V1_CONTROLLER}(?:,{_V1_CONTROLLER})*))?(?=/|\Z)")


def identify(path: str) -> Identity:
    """Who the cgroup at `path` is; any text is taken, `/` is the root.

    The path is relative to the cgroup mount, or absolute below `/sys/fs/cgroup` in any of the usual layouts
    (unified, hybrid, a version 1 hierarchy). It is not looked up: the answer depends on the text alone.
    """
    components = [component for component in _MOUNT_PREFIX.sub("", path, count=1).split("/") if component]
    for position in reversed(range(len(components))):
        container = _container(components, position)
        if container is not None:
            return container
        if position == len(components) - 1:
            level = _kubernetes_level_or_monitor(components)
            if level is not None:
                return level
    pod_uid, qos_class = _nearest_pod(components)
    return Identity(kind=_own_kind(components), pod_uid=pod_uid, qos_class=qos_class)


def printable_path(path: str) -> str:
    """`path`, as the file system API gives it, as text that does no harm; systemd's backslashes stay as they are."""
    return printable(os.fsencode(path))


def _container(components: Sequence[str], position: int) -> Identity | None:
    """The container or sandbox that the component at `position` names, or None."""
    component = components[position]
    above = components[:position]
    kind: CgroupKind = "container"
    runtime = None
    if match := _SCOPE.fullmatch(component) or _SLICE_TRIPLE.fullmatch(component):
        runtime, container_id = _RUNTIMES[match[1]], match[2]
    elif match := _DIRECTORY.fullmatch(component):
        runtime, container_id = _RUNTIMES[match[1]], match[2]
        # CRI-O with the systemd driver gives containers a scope, but a pod's sandbox a plain directory.
        if match[1] == "crio" and above and above[-1].endswith(".slice"):
            kind = "sandbox"
    elif match := _BARE_ID.fullmatch(component):
        container_id = match[1]
    else:
        return None
    pod_uid, qos_class = _nearest_pod(components[: position + 1])
    if runtime is None:
        runtime = "docker" if pod_uid is None else "unknown-cri"
    return Identity(
        kind=kind,
        runtime=runtime,
        container_id=container_id,
        pod_uid=pod_uid,
        qos_class=qos_class,
        subpath="/".join(components[position + 1 :]),
    )


def _kubernetes_level_or_monitor(components: Sequence[str]) -> Identity | None:
    """The monitor, pod or QoS level that the last component names, or None."""
    pod_uid, qos_class = _nearest_pod(components)
    if match := _MONITOR.fullmatch(components[-1]):
        return Identity(kind="monitor", runtime=_RUNTIMES[match[1]], pod_uid=pod_uid, qos_class=qos_class)
    if _pod(components, len(components) - 1) is not None:
        return Identity(kind="pod", pod_uid=pod_uid, qos_class=qos_class)
    if _is_qos_level(components):
        return Identity(kind="qos")
    return None


def _nearest_pod(components: Sequence[str]) -> tuple[str, str] | tuple[None, None]:
    """(UID, QoS class) of the innermost pod that these components name."""
    for position in reversed(range(len(components))):
        pod = _pod(components, position)
        if pod is not None:
            return pod
    return None, None


def _pod(components: Sequence[str], position: int) -> tuple[str, str] | None:
    """(UID, QoS class) of the pod that the component at `position` names, or None."""
    component = components[position].partition(":")[0]
    if match := _POD_SLICE.fullmatch(component):
        qos_class, uid = match.groups(default="guaranteed")
        return uid.replace("_", "-"), qos_class
    parent = components[position - 1] if position else ""
    if parent in _QOS_DIRECTORIES and (match := _POD_DIRECTORY.fullmatch(component)):
        return match[1].replace("_", "-"), _QOS_DIRECTORIES[parent]
    return None


def _is_qos_level(components: Sequence[str]) -> bool:
    """Whether the last component is one of the three directories that the kubelet puts pods into."""
    component = components[-1]
    if component in _QOS_DIRECTORIES:
        return component == "kubepods" or components[-2:-1] == ["kubepods"]
    return _QOS_SLICE.fullmatch(component) is not None


def _own_kind(components: Sequence[str]) -> CgroupKind:
    """Kind of a cgroup that belongs to no container, from its own name."""
    if components and components[-1].endswith(".mount"):
        return "mount"
    if components and components[-1].endswith(_UNIT_SUFFIXES):
        return "unit"
    return "other"
