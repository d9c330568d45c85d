# SPDX-License-Identifier: Apache-2.0
"""Events from the messages of NRI.

Newer runtimes call a method per event; those up to NRI 0.11 send most as StateChange. Both say the same.
"""

from collections.abc import Iterator

from google.protobuf.message import DecodeError
from msgspec.structs import replace

from tracer.containers.classes import class_annotations, class_of_container, class_of_pod
from tracer.containers.nri import messages_pb2 as messages
from tracer.containers.nri.events import Action, ContainerSeen, ContainerState, Event, SandboxSeen, SynchronizedAll

MAX_SYNCHRONIZED = 8192
"""Pods and containers taken from one synchronisation; a kubelet runs some hundred pods."""

_MAX_ID_CHARACTERS = 128
# No name is as long, nor the path of a cgroup that a runtime makes.
_MAX_TEXT_CHARACTERS = 1024

_SANDBOX_ACTIONS: dict[str, Action] = {
    "RunPodSandbox": "started",
    "StopPodSandbox": "stopped",
    "RemovePodSandbox": "removed",
}
_CONTAINER_ACTIONS: dict[str, Action] = {
    "StartContainer": "started",
    "PostStartContainer": "started",
    "StopContainer": "stopped",
    "RemoveContainer": "removed",
}
_STATE_CHANGES: dict[messages.Event, str] = {
    messages.RUN_POD_SANDBOX: "RunPodSandbox",
    messages.STOP_POD_SANDBOX: "StopPodSandbox",
    messages.REMOVE_POD_SANDBOX: "RemovePodSandbox",
    messages.START_CONTAINER: "StartContainer",
    messages.POST_START_CONTAINER: "PostStartContainer",
    messages.STOP_CONTAINER: "StopContainer",
    messages.REMOVE_CONTAINER: "RemoveContainer",
}
_STATES: dict[messages.ContainerState, ContainerState] = {
    messages.CONTAINER_CREATED: "created",
    messages.CONTAINER_PAUSED: "paused",
    messages.CONTAINER_RUNNING: "running",
    messages.CONTAINER_STOPPED: "stopped",
}
# Of containerd and CRI-O, for runtimes whose NRI has no field for the image yet.
_IMAGE_ANNOTATIONS = ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName")


def decode_event(method: str, payload: bytes, time_ns: int) -> SandboxSeen | ContainerSeen | None:
    """The event that a call of the plug-in's `method` tells of; None if it tells of none.

    Raises DecodeError where the payload cannot be decoded, or does not say which pod or container it is about.
    """
    if method == "StateChange":
        change = messages.StateChangeEvent.FromString(payload)
        method, pod, container = _STATE_CHANGES.get(change.event, ""), change.pod, change.container
    elif method in _SANDBOX_ACTIONS or method in _CONTAINER_ACTIONS:
        request = messages.EventRequest.FromString(payload)
        pod, container = request.pod, request.container
    if action := _SANDBOX_ACTIONS.get(method):
        _check_id(pod.id)
        return _sandbox_seen(action, time_ns, pod)
    if action := _CONTAINER_ACTIONS.get(method):
        _check_id(container.id)
        return _with_pod(_container_seen(action, time_ns, container), _sandbox_seen(action, time_ns, pod))
    return None


class Synchronization:
    """What the parts of one synchronisation told so far: a container's pod may come in a later part than it."""

    def __init__(self) -> None:
        self.complete = True
        """Whether nothing that the runtime told was lost."""
        self._sandboxes: dict[str, SandboxSeen] = {}
        self._containers: dict[str, tuple[ContainerSeen, str]] = {}

    def add(self, part: messages.SynchronizeRequest, time_ns: int) -> None:
        """Takes in one part."""
        for pod in part.pods:
            if self._can_take(pod.id):
                self._sandboxes[pod.id] = _sandbox_seen("synchronized", time_ns, pod)
        for container in part.containers:
            if self._can_take(container.id):
                seen = _container_seen("synchronized", time_ns, container)
                self._containers[container.id] = seen, container.pod_sandbox_id

    def events(self, time_ns: int) -> Iterator[Event]:
        """All that was told, the sandboxes first; at last SynchronizedAll, unless something was lost."""
        yield from self._sandboxes.values()
        for container, sandbox_id in self._containers.values():
            yield _with_pod(container, self._sandboxes.get(sandbox_id))
        if self.complete:
            yield SynchronizedAll(time_ns=time_ns, ids=frozenset(self._sandboxes) | frozenset(self._containers))

    def _can_take(self, identifier: str) -> bool:
        room = len(self._sandboxes) + len(self._containers) < MAX_SYNCHRONIZED
        if room and _is_id(identifier):
            return True
        self.complete = False
        return False


def _sandbox_seen(action: Action, time_ns: int, pod: messages.PodSandbox) -> SandboxSeen:
    return SandboxSeen(
        action=action,
        time_ns=time_ns,
        sandbox_id=pod.id,
        pod_uid=_text(pod.uid),
        pod_name=_text(pod.name),
        namespace=_text(pod.namespace),
        cgroups_path=_text(pod.linux.cgroups_path),
        cgroup_parent=_text(pod.linux.cgroup_parent),
        pid=pod.pid or None,
        class_annotations=class_annotations(pod.annotations),
    )


def _container_seen(action: Action, time_ns: int, container: messages.Container) -> ContainerSeen:
    images = [container.image.name, *(container.annotations.get(key, "") for key in _IMAGE_ANNOTATIONS)]
    resources = container.linux.resources
    return ContainerSeen(
        action=action,
        time_ns=time_ns,
        container_id=container.id,
        container_name=_text(container.name),
        pod_uid=None,
        pod_name=None,
        namespace=None,
        image=next(filter(None, map(_text, images)), None),
        cgroups_path=_text(container.linux.cgroups_path),
        cgroup_parent=None,
        pid=container.pid or None,
        state=_STATES.get(container.state, "unknown"),
        rdt_class=_text(resources.rdt_class.value or class_of_container("rdt", container.annotations)),
        blockio_class=_text(resources.blockio_class.value or class_of_container("blockio", container.annotations)),
    )


def _with_pod(container: ContainerSeen, sandbox: SandboxSeen | None) -> ContainerSeen:
    if sandbox is None:
        return container
    of_pod = sandbox.class_annotations
    return replace(
        container,
        pod_uid=sandbox.pod_uid,
        pod_name=sandbox.pod_name,
        namespace=sandbox.namespace,
        cgroup_parent=sandbox.cgroup_parent,
        rdt_class=container.rdt_class or _text(class_of_pod("rdt", container.container_name, of_pod)),
        blockio_class=container.blockio_class or _text(class_of_pod("blockio", container.container_name, of_pod)),
    )


def _check_id(identifier: str) -> None:
    if not _is_id(identifier):
        raise DecodeError("no id, or one that is none")


def _is_id(identifier: str) -> bool:
    return 0 < len(identifier) <= _MAX_ID_CHARACTERS


def _text(text: str) -> str | None:
    return text if 0 < len(text) <= _MAX_TEXT_CHARACTERS else None
