# SPDX-License-Identifier: Apache-2.0
"""What an NRI event says of a container's names and classes."""

from tracer.containers.nri.events import ContainerSeen, Event, SandboxSeen
from tracer.containers.runtime_state.names import ContainerNames, harmless


def names_of(event: Event, runtime: str) -> tuple[str, ContainerNames] | None:
    """Container id and names; None for an event that names nobody.

    `runtime`: the name and version with which the runtime introduced itself.
    """
    if isinstance(event, ContainerSeen):
        container_id, container_name, image = event.container_id, event.container_name, event.image
        rdt_class, blockio_class = event.rdt_class, event.blockio_class
    elif isinstance(event, SandboxSeen):
        container_id, container_name, image = event.sandbox_id, None, None
        rdt_class, blockio_class = None, None
    else:
        return None
    return container_id, ContainerNames(
        runtime="cri-o" if runtime.startswith("cri-o") else "containerd",
        is_sandbox=isinstance(event, SandboxSeen),
        container_name=harmless(container_name),
        pod_name=harmless(event.pod_name),
        pod_uid=harmless(event.pod_uid),
        namespace=harmless(event.namespace),
        image=harmless(image),
        rdt_class=harmless(rdt_class),
        blockio_class=harmless(blockio_class),
    )
