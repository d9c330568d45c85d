# SPDX-License-Identifier: Apache-2.0
"""What an OCI configuration says of a container's classes, whichever runtime wrote it.

Of the annotations of a pod a container's configuration has only those that the runtime is configured to hand on.
"""

import msgspec

from tracer.containers.runtime_state.names import harmless


class ClassAnnotations(msgspec.Struct):
    """See `tracer.containers.classes`; those for one container of a pod are told by NRI only."""

    rdt_class: str | None = msgspec.field(default=None, name="io.kubernetes.cri.rdt-class")
    rdt_class_of_pod: str | None = msgspec.field(default=None, name="rdt.resources.beta.kubernetes.io/pod")
    blockio_class: str | None = msgspec.field(default=None, name="io.kubernetes.cri.blockio-class")
    blockio_class_of_pod: str | None = msgspec.field(default=None, name="blockio.resources.beta.kubernetes.io/pod")


class IntelRdt(msgspec.Struct):
    """`linux.intelRdt` of the OCI runtime specification; closID is the container's control group in resctrl."""

    clos_id: str | None = msgspec.field(default=None, name="closID")


class Linux(msgspec.Struct):
    """`linux` of the OCI runtime specification."""

    intel_rdt: IntelRdt | None = msgspec.field(default=None, name="intelRdt")


def rdt_class(annotations: ClassAnnotations, linux: Linux | None) -> str | None:
    """What the low-level runtime acts upon; else what the annotations ask for."""
    clos_id = linux.intel_rdt.clos_id if linux is not None and linux.intel_rdt is not None else None
    return harmless(clos_id or annotations.rdt_class or annotations.rdt_class_of_pod)


def blockio_class(annotations: ClassAnnotations) -> str | None:
    """What the annotations ask for; the configuration itself has only what the class stands for."""
    return harmless(annotations.blockio_class or annotations.blockio_class_of_pod)
