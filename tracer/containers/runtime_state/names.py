# SPDX-License-Identifier: Apache-2.0
"""What a runtime's state says about a container, made harmless."""

import msgspec

_LONGEST_NAME = 512
"""Characters. A pod's name has at most 253, an image's with tag and digest rarely more than 400."""


class ContainerNames(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who a container is by its runtime's own state; None is what that does not say.

    runtime: `containerd`, `cri-o`, `podman` or `docker`: whose state it is.
    is_sandbox: it holds a pod's namespaces (the pause container); such a one has no container_name.
    namespace: Kubernetes' own, not containerd's.
    rdt_class, blockio_class: those of cache and memory bandwidth, and of block I/O; see `tracer.containers.classes`.

    All texts are at most 512 characters long and printable.
    """

    runtime: str
    is_sandbox: bool = False
    container_name: str | None = None
    pod_name: str | None = None
    pod_uid: str | None = None
    namespace: str | None = None
    image: str | None = None
    rdt_class: str | None = None
    blockio_class: str | None = None


def harmless(text: str | None) -> str | None:
    """`text` cut to 512 characters, those that do not print as `\\x..` or `\\u....`; None for an empty one."""
    if not text:
        return None
    text = text[:_LONGEST_NAME]
    if not text.isprintable():
        text = "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
            for character in text
        )
    return text[:_LONGEST_NAME]
