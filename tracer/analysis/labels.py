# SPDX-License-Identifier: Apache-2.0
"""What to call a cgroup, as expressions over the identity columns of any table."""

import polars as pl

_SHORT_ID = 12


def container_label() -> pl.Expr:
    """`web-1/app` for a container of a pod; else its own name or short id; else the unit's name, or the path.

    A String, never null. Names are as somebody chose them: escape them wherever they are shown.
    """
    kind = pl.col("cgroup_kind").cast(pl.String)
    pod = _text("pod_name")
    container = pl.coalesce(_text("container_name"), _text("container_id").str.head(_SHORT_ID))
    path = _text("cgroup_path")
    return (
        pl.when(kind == "idle")
        .then(pl.lit("idle"))
        # A sandbox and a monitor have ids of their own, which nobody knows.
        .when(pod.is_not_null() & (kind != "container"))
        .then(pl.format("{} ({})", pod, kind))
        .when(container.is_not_null())
        .then(pl.when(pod.is_null()).then(container).otherwise(pl.format("{}/{}", pod, container)))
        .when(kind == "unit")
        .then(path.str.split("/").list.last())
        .otherwise(path)
        .fill_null(pl.format("cgroup {}", "cgroup_id"))
    )


def _text(name: str) -> pl.Expr:
    text = pl.col(name).cast(pl.String)
    return pl.when(text.str.len_bytes() > 0).then(text)
