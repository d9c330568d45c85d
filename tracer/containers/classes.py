# SPDX-License-Identifier: Apache-2.0
"""The classes that a container was given: of cache and memory bandwidth (RDT), and of block I/O.

Runtimes take them from annotations, in this order (goresctrl's pkg/kubernetes, which containerd and CRI-O use):

    io.kubernetes.cri.<rdt|blockio>-class                           of the container
    <rdt|blockio>.resources.beta.kubernetes.io/container.<name>     of its pod, for one container
    <rdt|blockio>.resources.beta.kubernetes.io/pod                  of its pod, for all
"""

from collections.abc import Mapping
from itertools import islice
from typing import Literal

Resource = Literal["rdt", "blockio"]

_OF_PODS = tuple(f"{resource}.resources.beta.kubernetes.io/" for resource in ("rdt", "blockio"))
_MOST_ANNOTATIONS = 256


def class_of_container(resource: Resource, annotations: Mapping[str, str]) -> str:
    """The class by the container's own annotations, as it stands there; empty if they give none."""
    return annotations.get(f"io.kubernetes.cri.{resource}-class", "")


def class_of_pod(resource: Resource, container_name: str | None, annotations: Mapping[str, str]) -> str:
    """The same by the annotations of its pod."""
    of_pod = f"{resource}.resources.beta.kubernetes.io/"
    return annotations.get(f"{of_pod}container.{container_name}") or annotations.get(f"{of_pod}pod", "")


def class_annotations(pod_annotations: Mapping[str, str]) -> dict[str, str]:
    """Those of a pod's annotations that give classes; of a pod with more than 256 of these, the first."""
    found = (item for item in pod_annotations.items() if item[0].startswith(_OF_PODS))
    return dict(islice(found, _MOST_ANNOTATIONS))
