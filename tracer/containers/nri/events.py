# SPDX-License-Identifier: Apache-2.0
"""What a container runtime said over NRI.

Texts are as the runtime sent them, not made fit for a terminal; None is what it did not say. Every `time_ns` is
CLOCK_MONOTONIC when the bytes were read.
"""

from typing import Literal

import msgspec

Action = Literal["synchronized", "started", "stopped", "removed"]
"""`synchronized`: it was there already when the plug-in connected."""

ContainerState = Literal["unknown", "created", "paused", "running", "stopped"]


class SandboxSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A pod's sandbox. `sandbox_id` is the container id of its pause container, where the runtime has one.

    class_annotations: those that give its containers classes; see `tracer.containers.classes`.
    """

    action: Action
    time_ns: int
    sandbox_id: str
    pod_uid: str | None
    pod_name: str | None
    namespace: str | None
    cgroups_path: str | None
    cgroup_parent: str | None
    pid: int | None
    class_annotations: dict[str, str] = {}


class ContainerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A container and its pod.

    `started` comes up to twice: in the state `created`, when the cgroup exists and `pid` is set but nothing of the
    container has run yet, and when it runs. `stopped` may come after the cgroup is gone, `removed` does.
    cgroups_path: as the runtime has it, `<slice>:<prefix>:<id>` with the systemd driver, else a path.
    cgroup_parent: the pod's cgroup.
    """

    action: Action
    time_ns: int
    container_id: str
    container_name: str | None
    pod_uid: str | None
    pod_name: str | None
    namespace: str | None
    image: str | None
    cgroups_path: str | None
    cgroup_parent: str | None
    pid: int | None
    state: ContainerState
    rdt_class: str | None = None
    blockio_class: str | None = None


class SynchronizedAll(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a synchronisation: of sandboxes and of containers not yet stopped, the runtime has just these ids.

    Whatever else an earlier connection told of has stopped or gone since. Does not come if a part of the
    synchronisation was lost.
    """

    time_ns: int
    ids: frozenset[str]


class Disconnected(msgspec.Struct, frozen=True, kw_only=True):
    """From here on nothing is heard until the next SynchronizedAll. `reason` is one printable line."""

    time_ns: int
    reason: str


Event = ContainerSeen | SandboxSeen | SynchronizedAll | Disconnected
