# SPDX-License-Identifier: Apache-2.0
"""containerd: the OCI bundles of its running tasks.

`<state>/io.containerd.runtime.v2.task/<containerd namespace>/<id>/config.json` is the OCI configuration that the
low-level runtime starts the container from, so it is complete before the cgroup exists. Its annotations name

    io.kubernetes.cri.*   CRI: the kubelet's pods, in the namespace `k8s.io` (keys as in containerd's
                          internal/cri/annotations; seen live with containerd 1.7.24)
    nerdctl/name          nerdctl, in any namespace (as in its pkg/labels and pkg/cmd/container; not seen live)

Docker's containers (namespace `moby`) have bundles without annotations (seen live with Docker 20.10.24); their names
are in Docker's own state.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tracer.containers.runtime_state.files import read_json
from tracer.containers.runtime_state.names import ContainerNames, harmless
from tracer.containers.runtime_state.oci import ClassAnnotations, Linux, blockio_class, rdt_class

STATE_DIRECTORIES = (
    Path("/run/containerd"),
    Path("/run/k3s/containerd"),  # k3s and RKE2
    Path("/run/k0s/containerd"),
    Path("/var/snap/microk8s/common/run/containerd"),
)
"""The `state` of containerd's configuration, as containerd and the distributions that bring their own set it."""

_TASKS = "io.containerd.runtime.v2.task"
_DOCKER_NAMESPACE = "moby"


class _Annotations(
    ClassAnnotations,
    rename={
        "container_type": "io.kubernetes.cri.container-type",
        "container_name": "io.kubernetes.cri.container-name",
        "pod_name": "io.kubernetes.cri.sandbox-name",
        "pod_uid": "io.kubernetes.cri.sandbox-uid",
        "namespace": "io.kubernetes.cri.sandbox-namespace",
        "image": "io.kubernetes.cri.image-name",
        "nerdctl_name": "nerdctl/name",
    },
):
    container_type: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    image: str | None = None
    nerdctl_name: str | None = None


class _Bundle(msgspec.Struct):
    annotations: _Annotations | None = None
    linux: Linux | None = None


_DECODER = msgspec.json.Decoder(_Bundle)


class ContainerdState:
    """The bundles below some of containerd's state directories."""

    runtimes = frozenset({"containerd"})

    def __init__(self, state_directories: Iterable[Path]) -> None:
        self._tasks = [str(directory / _TASKS) for directory in state_directories]

    def find(self, container_id: str, _runtime: str | None) -> ContainerNames | None:
        """Names of the task `container_id`, in whichever of containerd's namespaces it is."""
        for tasks in self._tasks:
            try:
                namespaces = os.listdir(tasks)  # noqa: PTH208 - Path.iterdir() takes several times as long
            except OSError:
                continue
            for namespace in namespaces:
                if namespace == _DOCKER_NAMESPACE:
                    continue
                bundle = read_json(f"{tasks}/{namespace}/{container_id}/config.json", _DECODER)
                if bundle is not None:
                    return _names(bundle.annotations or _Annotations(), bundle.linux)
        return None


def _names(annotations: _Annotations, linux: Linux | None) -> ContainerNames:
    is_sandbox = annotations.container_type == "sandbox"
    return ContainerNames(
        runtime="containerd",
        is_sandbox=is_sandbox,
        container_name=None if is_sandbox else harmless(annotations.container_name or annotations.nerdctl_name),
        pod_name=harmless(annotations.pod_name),
        pod_uid=harmless(annotations.pod_uid),
        namespace=harmless(annotations.namespace),
        image=harmless(annotations.image),
        rdt_class=rdt_class(annotations, linux),
        blockio_class=blockio_class(annotations),
    )
