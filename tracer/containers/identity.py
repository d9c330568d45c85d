# SPDX-License-Identifier: Apache-2.0
"""Who a cgroup is, told from its path alone.

Container runtimes, the kubelet and systemd each name cgroups in their own way, and these trees nest: a Kubernetes node
may itself be a container, and a container of a pod may run containers. The rules are read component by component. The
innermost container is the one that a cgroup belongs to; the outermost pod is the one that this node has been given, of
which others may learn the names. What a path cannot tell (names of most pods and containers, their namespace) stays
None.
"""

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tracer.containers.forms import CgroupKind, Form, match_form, match_pod
from tracer.containers.path_names import name_in
from tracer.printable import printable


class Identity(msgspec.Struct, frozen=True, gc=False):
    """Who a cgroup is; None is what is not known.

    kind: `sandbox` holds a pod's namespaces, `monitor` watches over a container (conmon), `pod` and `qos` are
    levels of the kubelet's tree, or `pod` is one of podman's; `unit` and `mount` are systemd's; `idle` is no cgroup
    but a CPU's idle time.
    container_id: as the runtime gives it; of runtimes that know their containers by name only (LXC, systemd-nspawn,
    libvirt, Nomad), the path of the container's cgroup, which no other on the node has.
    pod_uid: of a pod of Kubernetes or podman, a task of ECS, or an allocation of Nomad.
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


class ContainerKey(NamedTuple):
    """Which container. `user_id`: that of the user for whom systemd runs it, whose runtime has given it its id.

    Anybody can call a cgroup of their own as somebody else's container is called.
    """

    container_id: str
    user_id: int | None = None


IDLE = Identity(kind="idle")
UNKNOWN = Identity(kind="unknown")

# A static pod's UID is a hash of 32 digits. systemd takes `-` for a level of slices, hence the `_`.
_POD_UID = r"([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_POD_SLICE = re.compile(rf"(?:.+-)?kubepods(?:-(burstable|besteffort))?-pod{_POD_UID}\.slice")
_POD_DIRECTORY = re.compile(rf"pod{_POD_UID}")
_QOS_SLICE = re.compile(r"(?:.+-)?kubepods(?:-burstable|-besteffort)?\.slice")
_QOS_DIRECTORIES = {"kubepods": "guaranteed", "burstable": "burstable", "besteffort": "besteffort"}

_UNIT_SUFFIXES = (".service", ".scope", ".slice", ".socket", ".swap")
# Where systemd puts a user's manager and what that runs (systemd.slice(5), user@.service(5)).
_USER = re.compile(r"user\.slice/user-([0-9]{1,10})\.slice/user@\1\.service")

_V1_CONTROLLER = (
    "(?:blkio|cpu|cpuacct|cpuset|debug|devices|freezer|hugetlb|memory|misc|net_cls|net_prio|perf_event|pids|rdma)"
)
_MOUNT_PREFIX = re.compile(rf"/sys/fs/cgroup(?:/(?:unified|systemd|{_V1_CONTROLLER}(?:,{_V1_CONTROLLER})*))?(?=/|\Z)")


def identify(path: str) -> Identity:
    """Who the cgroup at `path` is; any text is taken, `/` is the root.

    The path is relative to the cgroup mount, or absolute below `/sys/fs/cgroup` in any of the usual layouts
    (unified, hybrid, a version 1 hierarchy). It is not looked up: the answer depends on the text alone.
    """
    return recognize(path)[0]


def recognize(path: str) -> tuple[Identity, ContainerKey | None]:
    """Who the cgroup at `path` is, and the container that it belongs to or, as a monitor, watches over.

    Of a container whose path tells its name nothing more can be learnt, so that it needs no key.
    """
    components = path_components(path)
    for position in reversed(range(len(components))):
        match = match_form(components[position - 1] if position else "", components[position])
        is_last = position == len(components) - 1
        if match is not None and (is_last or match[0].kind in ("container", "sandbox")):
            return _by_form(*match, components, position)
        if is_last and (level := _kubernetes_level(components)) is not None:
            return level, None
    pod_uid, qos_class = _outermost_pod(components)
    return Identity(kind=_own_kind(components), pod_uid=pod_uid, qos_class=qos_class), None


def path_components(path: str) -> list[str]:
    """The names in a path, without those of the place at which a cgroup tree is usually mounted."""
    return [component for component in _MOUNT_PREFIX.sub("", path, count=1).split("/") if component]


def printable_path(path: str) -> str:
    """`path`, as the file system API gives it, as text that does no harm; systemd's backslashes stay as they are."""
    return printable(os.fsencode(path))


def _by_form(form: Form, found: str, components: Sequence[str], position: int) -> tuple[Identity, ContainerKey | None]:
    """By the form of the component at `position`, which has the id or name `found` in it."""
    is_container = form.kind in ("container", "sandbox")
    has_id = form.tells == "id"
    pod_uid, qos_class = _outermost_pod(components[: position + 1])
    identity = Identity(
        kind=form.kind,
        runtime=form.runtime,
        container_id=(found if has_id else "/" + "/".join(components[: position + 1])) if is_container else None,
        container_name=name_in(found, form.tells) if is_container else None,
        pod_uid=pod_uid,
        qos_class=qos_class,
        subpath="/".join(components[position + 1 :]),
    )
    return identity, ContainerKey(found, _user_id(components)) if has_id and form.kind != "pod" else None


def _user_id(components: Sequence[str]) -> int | None:
    user = _USER.fullmatch("/".join(components[:3]))
    return None if user is None else int(user[1])


def _kubernetes_level(components: Sequence[str]) -> Identity | None:
    """The pod or QoS level that the last component names, or None."""
    pod_uid, qos_class = _outermost_pod(components)
    pod = _pod(components, len(components) - 1)
    if pod is not None and pod[1] is not None:
        return Identity(kind="pod", pod_uid=pod_uid, qos_class=qos_class)
    if _is_qos_level(components):
        return Identity(kind="qos", pod_uid=pod_uid, qos_class=qos_class)
    return None


def _outermost_pod(components: Sequence[str]) -> tuple[str | None, str | None]:
    """(UID, QoS class) of the outermost pod that these components name; only those of Kubernetes have a class."""
    for position in range(len(components)):
        pod = _pod(components, position)
        if pod is not None:
            return pod
    return None, None


def _pod(components: Sequence[str], position: int) -> tuple[str, str | None] | None:
    """(UID, QoS class) of the pod that the component at `position` names, or None."""
    component = components[position].partition(":")[0]
    if match := _POD_SLICE.fullmatch(component):
        qos_class, slice_uid = match.groups(default="guaranteed")
        return slice_uid.replace("_", "-"), qos_class
    parent = components[position - 1] if position else ""
    if parent in _QOS_DIRECTORIES and (match := _POD_DIRECTORY.fullmatch(component)):
        return match[1].replace("_", "-"), _QOS_DIRECTORIES[parent]
    uid = match_pod(parent, components[position])
    return None if uid is None else (uid, None)


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
