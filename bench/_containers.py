# SPDX-License-Identifier: Apache-2.0
"""Containers of the benches' own: cgroups as the kubelet and containerd nest them, and bundles; without a runtime."""

import contextlib
import json
import os
import random
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tracer.containers.cgroupfs import find_cgroup2_mount


class Container(NamedTuple):
    """Where a container's cgroup and its bundle are."""

    container_id: str
    pod: Path
    cgroup: Path
    bundle: Path
    pod_uid: str

    @classmethod
    def new(cls, root: Path, state: Path) -> "Container":
        """Nothing is made yet."""
        container_id = random.randbytes(32).hex()
        uid = str(uuid.uuid4())
        pod = root / f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        bundle = state / "io.containerd.runtime.v2.task/k8s.io" / container_id
        return cls(container_id, pod, pod / f"cri-containerd-{container_id}.scope", bundle, uid)

    def write_bundle(self) -> None:
        """What containerd has written when it makes the cgroup: some 20 kB."""
        annotations = {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.container-name": "main",
            "io.kubernetes.cri.sandbox-name": f"pod-{self.container_id[:8]}",
            "io.kubernetes.cri.sandbox-namespace": "bench",
            "io.kubernetes.cri.sandbox-uid": self.pod_uid,
        }
        environment = [f"VARIABLE_{number}={'v' * 100}" for number in range(150)]
        self.bundle.mkdir(parents=True)
        config = json.dumps({"process": {"env": environment}, "annotations": annotations})
        (self.bundle / "config.json").write_text(config)

    def remove_bundle(self) -> None:
        shutil.rmtree(self.bundle)


def remove_cgroups(root: Path) -> None:
    """A cgroup and all below it; there are no processes in them."""
    for directory, _children, _files in os.walk(root, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            Path(directory).rmdir()


@contextlib.contextmanager
def cgroup_tree() -> Iterator[Path]:
    """A cgroup for the bench alone, gone afterwards with all that is in it."""
    root = find_cgroup2_mount() / f"tracer-bench-{os.getpid()}"
    root.mkdir()
    try:
        yield root
    finally:
        remove_cgroups(root)
