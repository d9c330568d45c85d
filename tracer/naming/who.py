# SPDX-License-Identifier: Apache-2.0
"""Who a cgroup is, by the identity columns of the tables, and what that makes its name."""

import re
from typing import Final

import msgspec

_SHORT_ID: Final = 12

# What Kubernetes makes random names of (k8s.io/apimachinery/pkg/util/rand: no vowels, and no 0, 1 and 3), and those of
# them that stand for the decimal digits of a template's hash (SafeEncodeString there).
_RANDOM: Final = "[bcdfghjklmnpqrstvwxz2456789]"
_HASH: Final = "[456789bcdf]"
# What a task of ECS is called (tracer.containers.runtime_state.docker_agents); no pod of Kubernetes has a colon.
_TASK_END: Final = re.compile(r"(?<=.):[0-9]{1,10}-[0-9a-f]{8}\Z")
# A generated name is cut to this length before its random end (k8s.io/apiserver/pkg/storage/names), the dash included.
_LONGEST_NAME: Final = 63
_GENERATED_ENDS: Final = (
    # A pod of a CronJob's job: when that was due, in minutes, and in seconds before Kubernetes 1.21.
    re.compile(r"(?<=.)-[0-9]{8,10}-[a-z0-9]{5}\Z"),
    # A pod of a Deployment's ReplicaSet.
    re.compile(rf"(?<=.)-{_HASH}{{6,10}}-{_RANDOM}{{5}}\Z"),
    # A pod of a DaemonSet, of a Job, or of a ReplicaSet of nobody's.
    re.compile(rf"(?<=.)-{_RANDOM}{{5}}\Z"),
)
# A pod of a StatefulSet: from 0 on, or from where its `ordinals.start` says.
_INDEX: Final = re.compile(r"(?<=.)-(?:0|[1-9][0-9]{0,4})\Z")
_CUT_END: Final = re.compile(rf"(-{_HASH}{{0,10}})?-?{_RANDOM}{{5}}\Z")
# Scopes of logins and of systemd-run, numbered or named at random.
_NUMBERED_UNIT: Final = re.compile(r"(session|run)-[^./]*\.(scope|service)\Z")
_HELPERS: Final = ("sandbox", "monitor")


class Who(msgspec.Struct, frozen=True, gc=False):
    """A cgroup, by the identity columns of the tables; None is what is not known."""

    node_name: str | None = None
    cgroup_id: int | None = None
    cgroup_kind: str | None = None
    cgroup_path: str | None = None
    runtime: str | None = None
    container_id: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    qos_class: str | None = None


class Named(Who, frozen=True, kw_only=True):
    """A cgroup and what it is called: how `--json` tells who somebody is."""

    name: str


def name_of(who: Who) -> str:
    """`shop/web-1/app`: namespace, pod and container; the container alone where there is no pod.

    What has no name has its number: `pod` and the UID, and the first 12 digits of the container's id. A unit is called
    as systemd calls it, after the manager that runs it if that is not the node's own; all else by its path. Names are
    as somebody chose them, of any length and with any characters: see `tracer.naming.shown_names`.
    """
    return _name(who, who.pod_name, unit_name(who.cgroup_path))


def workload_of(who: Who, *, keep_index: bool = True) -> str:
    """`shop/web/app`: `name_of` without what differs from run to run.

    A pod's name is that of its Deployment, ReplicaSet, DaemonSet, Job or CronJob, without hash and random end, that of
    a static pod without its node's name, or that of a task of ECS without its version. Indices are kept: `db-0` of a
    StatefulSet and `train-3` of an indexed Job have the same part of the work in each run, and not that of `db-1`.
    Without `keep_index` all of a StatefulSet are one, `db`, which a look at many nodes needs. A name that somebody
    chose loses its end too if that looks generated: five characters of those that Kubernetes uses, as in `web-https`.
    """
    pod_name = _pod_workload(who.pod_name, who.node_name, keep_index=keep_index) if who.pod_name else None
    unit = unit_name(who.cgroup_path)
    return _name(who, pod_name, None if unit is None else _NUMBERED_UNIT.sub(r"\1-*.\2", unit))


def unit_name(path: str | None) -> str | None:
    """`ssh.service`, or `user@1000.service/ssh.service`: no two units of a node have the same; None without a path.

    A manager's units have names of their own, and slices are among them: what is above a unit and no slice is the
    manager, or a container.
    """
    if not path:
        return None
    *above, unit = path.split("/")
    return "/".join([*(one for one in above if one and not one.endswith(".slice")), unit]) or "/"


def _name(who: Who, pod_name: str | None, unit: str | None) -> str:
    kind = who.cgroup_kind
    if kind == "idle":
        return "idle"
    pod = _pod(who, pod_name)
    container = who.container_name or (who.container_id or "")[:_SHORT_ID]
    if kind in _HELPERS and (pod or container):
        # They have ids of their own, which nobody knows.
        return f"{pod or container} ({kind})"
    if container and kind not in ("pod", "qos"):
        return f"{pod}/{container}" if pod else container
    if pod and kind in ("pod", "container"):
        return pod if kind == "container" or not pod_name else f"{pod} (pod)"
    if pod and pod_name and kind != "unknown":
        # Some other cgroup of the pod's, of which there can be several.
        return f"{pod} ({' '.join(filter(None, (kind, (who.cgroup_path or '').rpartition('/')[2])))})"
    return (unit if kind == "unit" else None) or who.cgroup_path or pod or f"cgroup {who.cgroup_id}"


def _pod(who: Who, pod_name: str | None) -> str | None:
    if pod_name:
        return f"{who.namespace}/{pod_name}" if who.namespace else pod_name
    return f"pod{who.pod_uid}" if who.pod_uid else None


def _pod_workload(pod_name: str, node_name: str | None, *, keep_index: bool) -> str:
    of_node = pod_name.removesuffix(f"-{node_name}")
    if of_node != pod_name:
        return of_node
    if (family := _TASK_END.sub("", pod_name)) != pod_name:
        return family
    if len(pod_name.encode("utf-8", "surrogatepass")) == _LONGEST_NAME:
        return _CUT_END.sub("", pod_name)
    for end in _GENERATED_ENDS:
        if (workload := end.sub("", pod_name)) != pod_name:
            return workload
    return pod_name if keep_index else _INDEX.sub("", pod_name)
