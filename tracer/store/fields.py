# SPDX-License-Identifier: Apache-2.0
"""What schemas are made of: a table, its fields with their meaning, and the columns that say who a cgroup is."""

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

DESCRIPTION: Final = b"description"

STRING: Final = pa.string()
TIME: Final = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Table:
    """One table: its name (also the directory's), its schema, and how its files are split and sorted.

    `time_column` decides a row's UTC day, hence its `dt=` partition. `sort_columns` are never null. Amounts are never
    below zero, but for those in `differences`: by how much two clocks or counts differ that are read one after the
    other.
    """

    name: str
    schema: pa.Schema
    time_column: str
    sort_columns: tuple[str, ...]
    differences: frozenset[str] = frozenset()


def measured(name: str, type_: pa.DataType, description: str) -> pa.Field:
    """A column that is never null."""
    return pa.field(name, type_, nullable=False, metadata={DESCRIPTION: description.encode()})


def optional(name: str, type_: pa.DataType, description: str) -> pa.Field:
    """A column that is null where the value is unknown or was not measured."""
    return pa.field(name, type_, nullable=True, metadata={DESCRIPTION: description.encode()})


NODE_NAME: Final = measured("node_name", STRING, "name of the node on which the run took place")

IDENTITY: Final = (
    NODE_NAME,
    measured(
        "cgroup_id",
        pa.int64(),
        "the kernel's id of the cgroup: its inode in cgroup2 (one of 2^63 or more is the negative number of the same "
        "64 bits); 0 is idle time, which is no cgroup",
    ),
    measured(
        "cgroup_kind",
        STRING,
        "what the cgroup is: container, sandbox, monitor, pod, qos, unit, mount, other, idle or unknown",
    ),
    optional("cgroup_path", STRING, "path in the cgroup2 tree, from its root, which is /"),
    optional(
        "runtime",
        STRING,
        "container runtime, for example containerd, cri-o or docker; null where neither the path nor its state tells",
    ),
    optional(
        "container_id",
        STRING,
        "id of the container, without a runtime prefix; of one that has a name only, the path of its cgroup",
    ),
    optional(
        "container_name",
        STRING,
        "name of the container in its pod, or the runtime's name for it, at the time of the row",
    ),
    optional("pod_name", STRING, "name of the pod, of Kubernetes or podman, or of the ECS task"),
    optional(
        "pod_uid",
        STRING,
        "UID of the Kubernetes pod; id of podman's pod, the ECS task or the Nomad allocation; of pods within a pod's "
        "container, the outermost",
    ),
    optional("namespace", STRING, "Kubernetes namespace of the pod"),
    optional("qos_class", STRING, "Kubernetes QoS class of the pod: guaranteed, burstable or besteffort"),
)

SENDER_IDENTITY: Final = (
    NODE_NAME,
    optional(
        "cgroup_id",
        pa.int64(),
        "cgroup_id of the process that sent it; null where nobody can tell any more, as it had ended",
    ),
    *IDENTITY[2:],
)
"""The same of who sent something, which may be unknown."""

HOLDER_PREFIX: Final = "holder_"


def _of_holder(field: pa.Field) -> pa.Field:
    """The same of whoever held the CPU; null for the smaller holders together, and for nobody known."""
    return optional(
        f"{HOLDER_PREFIX}{field.name}",
        field.type,
        _HOLDER_MEANINGS.get(field.name, f"the same of the holder: {field.name}"),
    )


_HOLDER_MEANINGS: Final = {
    "cgroup_id": "who held the CPU: its cgroup_id; 0 is idle time; null for the smaller holders together and for "
    "nobody known",
    "cgroup_kind": "what the holder is, as in cgroup_kind; `rest` for the smaller holders together, `throttled` where "
    "a limit of its own kept the cgroup from running, `unknown` where nobody is known to have held the CPU",
}

HOLDER_IDENTITY: Final = tuple(_of_holder(field) for field in IDENTITY[1:])
