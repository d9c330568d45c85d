# SPDX-License-Identifier: Apache-2.0
"""Whom an experiment must not pause, not even for a moment."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from tracer.containers.census import CountedCgroup
from tracer.containers.identity import path_components
from tracer.errors import UsageError
from tracer.experiment.naming import Node, Place

_PROC = Path("/proc")
_SYSTEM = ("system.slice", "init.scope", "user.slice")
# Without which no container starts, ends or is looked after, wherever their units are.
_NODE_UNITS = re.compile(
    r"(kubelet|containerd|crio|docker|dockerd|podman|k3s|k3s-agent|rke2-server|rke2-agent|k0scontroller|k0sworker)"
    r"\.(service|slice|scope)"
)
_KUBE_SYSTEM = "kube-system"
# A hash of its manifest (kubernetes pkg/kubelet/config/common.go). The kubelet takes static pods for critical.
_STATIC_POD = re.compile("[0-9a-f]{32}")
# What the kubelet gives to pods of priority system-node-critical, and else to guaranteed ones (pkg/kubelet/qos).
_CRITICAL_OOM_SCORE = -997


def require_allowed(node: Node, victim: Place, suspect: Place, *, forced: bool) -> None:
    """Raises UsageError for a suspect that must not be paused; `forced`: the user insists on it.

    Nobody can insist on what would stop the tracer itself, or the victim.
    """
    for impossible in _impossible(node, victim, suspect):
        raise UsageError(f"{suspect.cgroup.path} cannot be paused: {impossible}")
    if forced:
        return
    for cgroup in node.at_or_below(suspect):
        if (reason := protected(node, cgroup)) is not None:
            who = "it" if cgroup.path == suspect.cgroup.path else cgroup.path
            raise UsageError(
                f"{suspect.cgroup.path} is not paused, as {who} {reason}; `--force` with its name does it nevertheless"
            )


def protected(node: Node, cgroup: CountedCgroup) -> str | None:
    """Why the node or its cluster may need this cgroup at any moment; None for others, such as a user's containers."""
    identity, components = cgroup.identity, path_components(cgroup.path)
    if identity.container_id is None and components[:1] and components[0] in _SYSTEM:
        return f"is in {components[0]}, the system's own" if len(components) > 1 else "is the system's own"
    if identity.kind == "qos":
        return "holds all pods of a class"
    if identity.kind == "unit" and components and _NODE_UNITS.fullmatch(components[-1]):
        return "runs the node's containers"
    if identity.kind == "monitor":
        return "watches over a container"
    if identity.pod_uid is None or (identity.qos_class is None and identity.namespace is None):
        # The kubelet runs no such pod: it is podman's, a task of ECS, or an allocation of Nomad.
        return None
    if identity.namespace == _KUBE_SYSTEM:
        return f"is in a pod of {_KUBE_SYSTEM}"
    if _STATIC_POD.fullmatch(identity.pod_uid):
        return "is in a static pod, which is critical"
    if identity.namespace is None:
        return f"is in a pod of a namespace that is not known, and could be {_KUBE_SYSTEM}"
    if identity.kind == "container" and identity.qos_class != "guaranteed":
        for pid in _pids(node.directory(cgroup)):
            if (score := _oom_score_adjustment(pid)) is not None and score <= _CRITICAL_OOM_SCORE:
                return f"is in a pod of critical priority (oom_score_adj {score})"
    return None


def cannot_be_told(suspect: Place) -> str | None:
    """What this node does not know of the suspect, for whoever wants to pause it; None if nothing."""
    identity = suspect.cgroup.identity
    if identity.pod_uid is not None and identity.qos_class == "guaranteed":
        return "a guaranteed pod: whether it is of critical priority cannot be told on the node"
    return None


def _impossible(node: Node, victim: Place, suspect: Place) -> Iterator[str]:
    if suspect.cgroup.path == "/":
        yield "it is the root, and holds all others"
    if suspect.cgroup.cgroup_id == victim.cgroup.cgroup_id:
        yield "it is the victim"
    if suspect.holds(victim.cgroup.path):
        yield "the victim is in it"
    if victim.holds(suspect.cgroup.path):
        yield "it is a part of the victim"
    if any(os.getpid() in _pids(node.directory(cgroup)) for cgroup in node.at_or_below(suspect)):
        yield "this tracer is in it, and could not let it go on again"


def _pids(directory: Path) -> list[int]:
    """Of its processes as this process sees them; of threads, where it is threaded."""
    for name in ("cgroup.procs", "cgroup.threads"):
        with contextlib.suppress(OSError, ValueError):
            return [int(pid) for pid in (directory / name).read_bytes().split()]
    return []


def _oom_score_adjustment(pid: int) -> int | None:
    try:
        return int((_PROC / str(pid) / "oom_score_adj").read_bytes())
    except (OSError, ValueError):
        return None
