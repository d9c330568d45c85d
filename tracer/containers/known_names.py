# SPDX-License-Identifier: Apache-2.0
"""What has been told of containers and pods, whoever told it, and what that makes of an identity by path."""

from typing import Any, Literal, NamedTuple

import msgspec

from tracer.containers.identity import ContainerKey, Identity
from tracer.containers.runtime_state import ContainerNames

Source = Literal["kernel", "walk", "inotify", "nri", "runtime"]

_AT_MOST = 65_536


class PodNames(NamedTuple):
    """A pod's name in its namespace, and who told of it."""

    name: str | None
    namespace: str | None
    source: Source


class _Container(NamedTuple):
    names: ContainerNames
    source: Source


class KnownNames:
    """Names by container, and of their pods by UID: all in a pod have these, also what is no container.

    Keeps what it is told until it is told to forget it, of more than 65,536 the latest. Not thread-safe.
    """

    def __init__(self) -> None:
        self._containers: dict[ContainerKey, _Container] = {}
        self._pods: dict[str, PodNames] = {}

    def give(self, key: ContainerKey, names: ContainerNames, source: Source) -> list[ContainerKey | str]:
        """Takes a container's names and those of its pod; of whom something is new: the key, the pod's UID, or both.

        Names that say more win over those that say less, and of equals the first stays; but whoever told a container's
        name may tell another. Of pods, which the kubelet runs, containers of users tell nothing; of a pod that the
        user's own podman runs, they have the name for themselves.
        """
        if key.user_id is not None:
            pod_name = names.pod_name if names.runtime == "podman" else None
            names = msgspec.structs.replace(names, is_sandbox=False, pod_name=pod_name, pod_uid=None, namespace=None)
        told = self._give_pod(names, source)
        known = self._containers.get(key)
        if known is not None and _count(known.names) >= _count(names):
            if source != known.source or names.container_name in (None, known.names.container_name):
                return told
            names = msgspec.structs.replace(known.names, container_name=names.container_name)
        self._containers[key] = _Container(names, source)
        _bound(self._containers)
        return [key, *told]

    def place(self, key: ContainerKey, pod_uid: str) -> list[ContainerKey | str]:
        """A container's path has it in this pod, should its names not say in which; of whom something is new."""
        known = self._containers.get(key)
        if known is None or known.names.pod_uid is not None or key.user_id is not None:
            return []
        names = msgspec.structs.replace(known.names, pod_uid=pod_uid)
        self._containers[key] = known._replace(names=names)
        return self._give_pod(names, known.source)

    def _give_pod(self, names: ContainerNames, source: Source) -> list[ContainerKey | str]:
        if names.pod_uid is None or (names.pod_name is None and names.namespace is None):
            return []
        known = self._pods.get(names.pod_uid)
        if known is not None and None not in known:
            return []
        self._pods[names.pod_uid] = PodNames(names.pod_name, names.namespace, source)
        _bound(self._pods)
        return [names.pod_uid]

    def names(self, key: ContainerKey | None) -> ContainerNames | None:
        """The container's names, if anybody told them."""
        known = self._containers.get(key) if key is not None else None
        return None if known is None else known.names

    def knows(self, whom: ContainerKey | str) -> bool:
        """Whether somebody told the names of a container, or of the pod with this UID."""
        return whom in (self._containers if isinstance(whom, ContainerKey) else self._pods)

    def source(self, by_path: Identity, key: ContainerKey | None) -> Source | None:
        """Who told the names that a cgroup has."""
        known = self._containers.get(key) if key is not None else None
        if known is not None:
            return known.source
        pod = self._pods.get(by_path.pod_uid) if by_path.pod_uid is not None else None
        return None if pod is None else pod.source

    def complete(self, by_path: Identity, key: ContainerKey | None) -> Identity:
        """What `recognize` made of a path, with what is known of the container and the pod.

        The runtime and whether it is a sandbox are as the names have it. The pod is the one in the path, if any.
        """
        names = self.names(key)
        pod_uid = by_path.pod_uid or (names.pod_uid if names is not None else None)
        pod = self._pods.get(pod_uid) if pod_uid is not None else None
        pod_name, namespace = (None, None) if pod is None else (pod.name, pod.namespace)
        if pod is None and names is not None and names.pod_uid in (None, pod_uid):
            pod_name, namespace = names.pod_name, names.namespace
        completed = msgspec.structs.replace(by_path, pod_uid=pod_uid, pod_name=pod_name, namespace=namespace)
        if names is None or by_path.container_id is None:
            return completed
        return msgspec.structs.replace(
            completed,
            kind="sandbox" if names.is_sandbox else "container",
            runtime=names.runtime,
            container_name=names.container_name,
        )

    def forget(self, whom: ContainerKey | str) -> None:
        """A container, or the pod with this UID, of which no cgroup is known any more."""
        if isinstance(whom, ContainerKey):
            self._containers.pop(whom, None)
        else:
            self._pods.pop(whom, None)


def _bound(known: dict[Any, Any]) -> None:
    """The oldest makes way: its cgroup may never have come."""
    if len(known) > _AT_MOST:
        del known[next(iter(known))]


def _count(names: ContainerNames) -> int:
    """How much the names say."""
    values = (
        *(names.container_name, names.pod_name, names.pod_uid, names.namespace),
        *(names.image, names.rdt_class, names.blockio_class),
    )
    return sum(value is not None for value in values) + names.is_sandbox
