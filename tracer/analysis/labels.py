# SPDX-License-Identifier: Apache-2.0
"""What to call a cgroup, as expressions over the identity columns of any table."""

from typing import Final

import polars as pl

_SHORT_ID = 12
_SHORTEST_ID = 6

# What Kubernetes makes random names of (k8s.io/apimachinery/pkg/util/rand: no vowels, and no 0, 1 and 3), and those of
# them that stand for the decimal digits of a template's hash (SafeEncodeString there).
_RANDOM: Final = "[bcdfghjklmnpqrstvwxz2456789]"
_HASH: Final = "[456789bcdf]"
# A generated name is cut to this length before its random end (k8s.io/apiserver/pkg/storage/names), the dash included.
_LONGEST_NAME: Final = 63
_GENERATED_ENDS: Final = (
    # A pod of a CronJob's job: when that was due, in minutes, and in seconds before Kubernetes 1.21.
    "-[0-9]{8,10}-[a-z0-9]{5}$",
    # A pod of a Deployment's ReplicaSet.
    f"-{_HASH}{{6,10}}-{_RANDOM}{{5}}$",
    # A pod of a DaemonSet, of a Job, or of a ReplicaSet of nobody's.
    f"-{_RANDOM}{{5}}$",
)
_CUT_END: Final = f"(-{_HASH}{{0,10}})?-?{_RANDOM}{{5}}$"
# Scopes of logins and of systemd-run, numbered or named at random.
_NUMBERED_UNIT: Final = r"^(session|run)-[^.]*\.(scope|service)$"


def container_label() -> pl.Expr:
    """`web-1/app` for a container of a pod; else its own name or short id; else the unit's name, or the path.

    A String, never null. Names are as somebody chose them: escape them wherever they are shown.
    """
    return _label(_text("pod_name"), _path_end())


def workload_label() -> pl.Expr:
    """`shop/web/app`: `container_label` without what differs from run to run, and with the namespace of a pod.

    A pod's name is that of its Deployment, ReplicaSet, DaemonSet, Job or CronJob, without hash and random end, or that
    of a static pod without its node's name. Indices are kept: `db-0` of a StatefulSet and `train-3` of an indexed Job
    have the same part of the work in each run, and not that of `db-1`. A name that somebody chose loses its end too if
    that looks generated: five characters of those that Kubernetes uses, as in `web-https`.
    """
    workload = _pod_workload(_text("pod_name"))
    namespace = _text("namespace")
    pod = pl.when(namespace.is_null()).then(workload).otherwise(pl.format("{}/{}", namespace, workload))
    return _label(pod, _path_end().str.replace(_NUMBERED_UNIT, "$1-*.$2"))


def is_named(name: str) -> pl.Expr:
    """Whether a cgroup is what people mean by `name`: never null.

    That is its label, also with the namespace before it or of its workload, the name of the container or pod, its path,
    or how the container's id begins.
    """
    named = container_label().eq_missing(pl.lit(name)) | workload_label().eq_missing(pl.lit(name))
    named |= pl.format("{}/{}", _text("namespace"), container_label()).eq_missing(pl.lit(name))
    for column in ("container_name", "pod_name", "cgroup_path"):
        named |= pl.col(column).eq_missing(pl.lit(name))
    if len(name) >= _SHORTEST_ID:
        named |= pl.col("container_id").str.starts_with(name).fill_null(False)
    return named


def _label(pod: pl.Expr, unit: pl.Expr) -> pl.Expr:
    kind = pl.col("cgroup_kind")
    container = pl.coalesce(_text("container_name"), _text("container_id").str.head(_SHORT_ID))
    return (
        pl.when(kind == "idle")
        .then(pl.lit("idle"))
        # A sandbox and a monitor have ids of their own, which nobody knows.
        .when(pod.is_not_null() & (kind != "container"))
        .then(pl.format("{} ({})", pod, kind))
        .when(container.is_not_null())
        .then(pl.when(pod.is_null()).then(container).otherwise(pl.format("{}/{}", pod, container)))
        .when(kind == "unit")
        .then(unit)
        .otherwise(_text("cgroup_path"))
        .fill_null(pl.format("cgroup {}", "cgroup_id"))
    )


def _pod_workload(pod: pl.Expr) -> pl.Expr:
    of_node = pod.str.strip_suffix(pl.format("-{}", pl.col("node_name")))
    workload = pod
    for end in reversed(_GENERATED_ENDS):
        workload = pl.when(pod.str.contains(f".{end}")).then(pod.str.replace(end, "")).otherwise(workload)
    was_cut = pod.str.len_bytes() == _LONGEST_NAME
    workload = pl.when(was_cut).then(pod.str.replace(_CUT_END, "")).otherwise(workload)
    return pl.when(of_node != pod).then(of_node).otherwise(workload)


def _path_end() -> pl.Expr:
    return _text("cgroup_path").str.split("/").list.last()


def _text(name: str) -> pl.Expr:
    text = pl.col(name)
    return pl.when(text.str.len_bytes() > 0).then(text)
