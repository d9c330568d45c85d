# SPDX-License-Identifier: Apache-2.0
"""CRI-O and podman, which share containers/storage: `<storage>/<driver>-containers/<id>/userdata/config.json`.

CRI-O writes this OCI configuration below both /run and /var/lib, with the kubelet's labels as annotations
`io.kubernetes.*` (as in its internal/factory/container and server/sandbox_run; not seen live). It is there before the
cgroup, except for a pod without a pause container: for that CRI-O makes an empty cgroup first.

podman writes it below /var/lib before the cgroup (seen live with 4.3.1), or with `transient_store` below /run (as in
its libpod/container_internal). Its annotations hold no names: these are in `containers.json` beside the containers'
directories (seen live) or, of volatile containers, in `volatile-containers.json` (as in containers/storage's
containers.go). `podman rename` replaces the list too, whatever database it has (as in its libpod/runtime_ctr.go). A
pod's name is only in podman's database; see `podman_pods`.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import msgspec

from tracer.containers.runtime_state.files import Files, Version
from tracer.containers.runtime_state.names import ContainerNames, harmless
from tracer.containers.runtime_state.oci import ClassAnnotations, Linux, blockio_class, rdt_class
from tracer.containers.runtime_state.podman_pods import PodmanPods
from tracer.containers.runtime_state.reader import Found, Reader, Record

STORAGE_ROOTS = (Path("/run/containers/storage"), Path("/var/lib/containers/storage"))
"""containers/storage's `runroot` and `graphroot` for root."""

DRIVERS = ("overlay", "btrfs", "vfs", "zfs")
_STORE_FILES = ("containers.json", "volatile-containers.json")
_MANAGERS = {"cri-o": "cri-o", "libpod": "podman"}


class _Annotations(
    ClassAnnotations,
    rename={
        "manager": "io.container.manager",
        "container_type": "io.kubernetes.cri-o.ContainerType",
        "container_name": "io.kubernetes.container.name",
        "pod_name": "io.kubernetes.pod.name",
        "pod_uid": "io.kubernetes.pod.uid",
        "namespace": "io.kubernetes.pod.namespace",
        "image": "io.kubernetes.cri-o.ImageName",
    },
):
    manager: str | None = None
    container_type: str | None = None
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    image: str | None = None


class _Configuration(msgspec.Struct):
    annotations: _Annotations | None = None
    linux: Linux | None = None


class _Metadata(msgspec.Struct, rename={"image": "image-name"}):
    image: str | None = None


class _StoredContainer(msgspec.Struct):
    """names: `podman rename` changes them here, but not in `metadata`, a JSON text of its own."""

    id: str
    names: tuple[str, ...] = ()
    metadata: str = "{}"


class _StoreFile(msgspec.Struct, frozen=True):
    version: Version
    containers: dict[str, _StoredContainer]


_CONFIGURATION_DECODER = msgspec.json.Decoder(_Configuration)
_METADATA_DECODER = msgspec.json.Decoder(_Metadata)
_STORE_DECODER = msgspec.json.Decoder(list[_StoredContainer])


class OciStorage(Reader):
    """The containers below some roots of containers/storage."""

    runtimes = frozenset({"cri-o", "podman"})

    def __init__(self, storage_roots: Iterable[Path], files: Files) -> None:
        super().__init__(files)
        self._stores = [str(root / f"{driver}-containers") for root in storage_roots for driver in DRIVERS]
        # podman's list of all containers, which grows with their number, would otherwise be read for each of them.
        self._store_files: dict[str, _StoreFile] = {}
        self._pods = PodmanPods(files)

    def find(self, container_id: str, runtime: str | None) -> Found | None:
        """See `Reader`.

        A `runtime` of this storage is believed; only without one does the configuration tell, since an image can bring
        podman's containers any annotation.
        """
        for store in self._stores:
            configuration = self.files.read_json(f"{store}/{container_id}/userdata/config.json", _CONFIGURATION_DECODER)
            if configuration is None:
                continue
            annotations = configuration.annotations or _Annotations()
            manager = runtime if runtime in self.runtimes else _MANAGERS.get(annotations.manager or "")
            if manager == "cri-o":
                return Found(_crio_names(annotations, configuration.linux))
            if manager == "podman":
                return self._of_podman(store, container_id)
        return None

    def places(self) -> Iterable[str]:
        """See `Reader`."""
        return self._stores

    def _of_podman(self, store: str, container_id: str) -> Found:
        """By the list that has the container, or else will have it."""
        files = [f"{store}/{name}" for name in _STORE_FILES]
        path = next((path for path in files if container_id in self._containers_in(path)), files[0])
        return Found(
            self._podman_names(path, container_id),
            Record(self.files, path, partial(self._podman_names, path, container_id)),
        )

    def _podman_names(self, path: str, container_id: str) -> ContainerNames:
        """By the list at `path`; of the container that holds its pod's namespaces the pod's name alone."""
        container = self._containers_in(path).get(container_id)
        pod = self._pods.pod_of(path.rpartition("/")[0].rpartition("/")[0], container_id)
        is_sandbox = pod is not None and pod.is_infra
        return ContainerNames(
            runtime="podman",
            is_sandbox=is_sandbox,
            container_name=None if container is None or is_sandbox else harmless(next(iter(container.names), None)),
            pod_name=None if pod is None else pod.name,
            pod_uid=None if pod is None else harmless(pod.pod_id),
            image=None if container is None or is_sandbox else harmless(_image(container.metadata)),
        )

    def _containers_in(self, path: str) -> Mapping[str, _StoredContainer]:
        """The containers in the list at `path`, by id; read again only once it has been replaced."""
        version = self.files.version(path)
        if version is None:
            return {}
        known = self._store_files.get(path)
        if known is None or known.version != version:
            containers = self.files.read_json(path, _STORE_DECODER) or []
            known = _StoreFile(version, {container.id: container for container in containers})
            self._store_files[path] = known
        return known.containers


def _crio_names(annotations: _Annotations, linux: Linux | None) -> ContainerNames:
    is_sandbox = annotations.container_type == "sandbox"
    return ContainerNames(
        runtime="cri-o",
        is_sandbox=is_sandbox,
        # CRI-O calls every sandbox `POD`.
        container_name=None if is_sandbox else harmless(annotations.container_name),
        pod_name=harmless(annotations.pod_name),
        pod_uid=harmless(annotations.pod_uid),
        namespace=harmless(annotations.namespace),
        image=harmless(annotations.image),
        rdt_class=rdt_class(annotations, linux),
        blockio_class=blockio_class(annotations),
    )


def _image(metadata: str) -> str | None:
    try:
        return _METADATA_DECODER.decode(metadata).image
    except (ValueError, RecursionError):
        return None
