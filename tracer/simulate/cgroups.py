# SPDX-License-Identifier: Apache-2.0
"""The cgroups of a simulated node: ids, paths and names, as an inventory of a real one gives them."""

import uuid
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import polars as pl

from tracer.containers.identity import IDLE, Identity, identify
from tracer.containers.inventory import IDLE_ID
from tracer.containers.labels import LABEL_SCHEMA, UNTIL
from tracer.simulate.scenario import Container

_ROOT_ID = 1
_FIRST_ID = 3_000


class SimulatedCgroups:
    """By index, the cgroup of each container of a scenario. `ids`, `paths` and `identities` are in that order."""

    def __init__(self, containers: Sequence[Container], seed: int) -> None:
        random = np.random.default_rng([seed, *b"cgroups"])
        numbers = _FIRST_ID + np.cumsum(random.integers(40, 200, len(containers)))
        self.ids = np.array(
            [_ROOT_ID if _path_is_root(c) else number for c, number in zip(containers, numbers, strict=True)], np.uint64
        )
        pods = {pod: uuid.UUID(bytes=random.bytes(16), version=4) for pod in dict.fromkeys(c.pod for c in containers)}
        self.paths = [_path(container, pods, random.bytes(32).hex()) for container in containers]
        self.identities = [
            _named(identify(path), container) for path, container in zip(self.paths, containers, strict=True)
        ]
        rows = [(IDLE_ID, None, IDLE), *zip(self.ids.tolist(), self.paths, self.identities, strict=True)]
        self._labels = pl.DataFrame(
            [
                {"cgroup_id": cgroup_id, "cgroup_kind": identity.kind, "cgroup_path": path}
                | {name: getattr(identity, name) for name in LABEL_SCHEMA.names()[3:]}
                for cgroup_id, path, identity in sorted(rows, key=lambda row: row[0])
            ],
            schema=LABEL_SCHEMA,
        )

    def resolve(self, cgroup_ids: Iterable[int]) -> set[int]:  # noqa: ARG002 - all are known from the beginning
        """Ids for which it is too early to tell: none."""
        return set()

    def labels(self, cgroup_ids: Iterable[int]) -> pl.DataFrame:  # noqa: ARG002 - all are asked for
        """Who each cgroup is; see `tracer.containers.labels.LABEL_SCHEMA`."""
        return self._labels

    def earlier_labels(self, cgroup_ids: Iterable[int]) -> pl.DataFrame:  # noqa: ARG002 - there are none
        """Labels of renamed containers: none."""
        return self._labels.clear().with_columns(pl.lit(None, pl.Int64).alias(UNTIL))


def _path_is_root(container: Container) -> bool:
    return container.pod is None and container.unit is None


def _path(container: Container, pods: dict[str | None, uuid.UUID], container_id: str) -> str:
    """As the kubelet and containerd make them with systemd's driver."""
    if container.pod is None:
        return "/" if container.unit is None else f"/system.slice/{container.unit}"
    pod = str(pods[container.pod]).replace("-", "_")
    parent = "/kubepods.slice/kubepods-burstable.slice"
    return f"{parent}/kubepods-burstable-pod{pod}.slice/cri-containerd-{container_id}.scope"


def _named(identity: Identity, container: Container) -> Identity:
    if container.pod is None:
        return identity
    return msgspec.structs.replace(
        identity, container_name=container.name, pod_name=container.pod, namespace=container.namespace
    )
