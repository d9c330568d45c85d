# SPDX-License-Identifier: Apache-2.0
"""One connection to the runtime as bytes in, replies and events out. Does no I/O.

The plug-in only listens: its replies ask for nothing to be changed. No reply is an error but that a method is
unimplemented, on which newer runtimes fall back to StateChange; any other would fail the start of somebody's container.
"""

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from tracer.containers.identity import printable_path
from tracer.containers.nri import messages_pb2 as messages
from tracer.containers.nri.decoding import Synchronization, decode_event
from tracer.containers.nri.events import Event
from tracer.containers.nri.framing import (
    PLUGIN_CONNECTION,
    REQUEST,
    RESPONSE,
    RUNTIME_CONNECTION,
    Message,
    MessageReader,
    NriError,
    PreparedResponse,
    encode,
)

_PLUGIN_NAME = "tracer"
# Plug-ins are called in the order of their index; those that change containers come before one that looks at them.
_PLUGIN_INDEX = "90"

_EVENTS = (
    messages.RUN_POD_SANDBOX,
    messages.REMOVE_POD_SANDBOX,
    messages.START_CONTAINER,
    messages.POST_START_CONTAINER,
    messages.STOP_CONTAINER,
    messages.REMOVE_CONTAINER,
)

_PLUGIN_SERVICE = "nri.pkg.api.v1alpha1.Plugin"
_RUNTIME_SERVICE = "nri.pkg.api.v1alpha1.Runtime"

# Besides Configure and Synchronize. A runtime calls some of them only for events that are not in the mask; should it
# do so all the same, it gets the reply that changes nothing.
_METHODS = frozenset({
    "Shutdown",
    "RunPodSandbox",
    "UpdatePodSandbox",
    "PostUpdatePodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "CreateContainer",
    "PostCreateContainer",
    "StartContainer",
    "PostStartContainer",
    "UpdateContainer",
    "PostUpdateContainer",
    "StopContainer",
    "RemoveContainer",
    "StateChange",
    "ValidateContainerAdjustment",
})  # fmt: skip

_CODE_UNIMPLEMENTED = 12
_REGISTRATION_STREAM = 1
_MAX_QUOTED_CHARACTERS = 200


def _response(payload: bytes) -> PreparedResponse:
    return PreparedResponse(messages.Response(payload=payload).SerializeToString())


_DONE = _response(b"")
_CONFIGURED = _response(
    messages.ConfigureResponse(events=sum(1 << (event - 1) for event in _EVENTS)).SerializeToString()
)
_MORE = _response(messages.SynchronizeResponse(more=True).SerializeToString())
_UNIMPLEMENTED = PreparedResponse(
    messages.Response(status=messages.Status(code=_CODE_UNIMPLEMENTED, message="unimplemented")).SerializeToString()
)

REGISTRATION = encode(
    Message(
        RUNTIME_CONNECTION,
        _REGISTRATION_STREAM,
        REQUEST,
        messages.Request(
            service=_RUNTIME_SERVICE,
            method="RegisterPlugin",
            payload=messages.RegisterPluginRequest(
                plugin_name=_PLUGIN_NAME, plugin_idx=_PLUGIN_INDEX
            ).SerializeToString(),
        ).SerializeToString(),
    )
)
"""What the plug-in sends first."""


class Conversation:
    """The plug-in's side of one connection, after it sent REGISTRATION."""

    def __init__(self) -> None:
        self.runtime = ""
        """The runtime's name and version, once it has said them; printable."""
        self.synchronized = False
        """Whether the runtime has told of all that was there before: from here on the plug-in is complete."""
        self._reader = MessageReader((PLUGIN_CONNECTION, RUNTIME_CONNECTION))
        self._synchronization = Synchronization()

    def receive(self, data: bytes, time_ns: int) -> Iterator[bytes | Event | None]:
        """Replies as bytes, each before the events that its request tells of; None for what could not be decoded.

        The replies are to be sent at once: what follows a reply is worked out only when it is asked for. Raises
        NriError when the connection is at its end.
        """
        for message in self._reader.feed(data):
            if message.connection == PLUGIN_CONNECTION and message.type == REQUEST:
                yield from self._answer(message, time_ns)
            elif message.connection == RUNTIME_CONNECTION and message.type == RESPONSE:
                _check_registration(message.data)

    def _answer(self, message: Message, time_ns: int) -> Iterator[bytes | Event | None]:
        try:
            request = messages.Request.FromString(message.data)
        except DecodeError:
            yield _DONE.on(message.stream)
            yield None
            return
        method = request.method if request.service == _PLUGIN_SERVICE else ""
        if method == "Synchronize":
            yield from self._synchronize(message.stream, request.payload, time_ns)
        elif method == "Configure":
            yield _CONFIGURED.on(message.stream)
            self._configure(request.payload)
        elif method in _METHODS:
            yield _DONE.on(message.stream)
            if method == "Shutdown":
                raise NriError("the runtime shut the plug-in down")
            yield from _events(method, request.payload, time_ns)
        else:
            yield _UNIMPLEMENTED.on(message.stream)

    def _configure(self, payload: bytes) -> None:
        try:
            request = messages.ConfigureRequest.FromString(payload)
        except DecodeError:
            return
        self.runtime = _quoted(f"{request.runtime_name} {request.runtime_version}".strip())

    def _synchronize(self, stream: int, payload: bytes, time_ns: int) -> Iterator[bytes | Event | None]:
        """The runtime wants to hear `more` again; it takes any other reply for a plug-in that knows no parts."""
        try:
            part = messages.SynchronizeRequest.FromString(payload)
        except DecodeError:
            part = messages.SynchronizeRequest()
            self._synchronization.complete = False
        yield (_MORE if part.more else _DONE).on(stream)
        self._synchronization.add(part, time_ns)
        if part.more:
            return
        if not self._synchronization.complete:
            yield None
        yield from self._synchronization.events(time_ns)
        self._synchronization = Synchronization()
        self.synchronized = True


def _events(method: str, payload: bytes, time_ns: int) -> Iterator[Event | None]:
    try:
        event = decode_event(method, payload, time_ns)
    except DecodeError:
        yield None
        return
    if event is not None:
        yield event


def _check_registration(data: bytes) -> None:
    try:
        status = messages.Response.FromString(data).status
    except DecodeError:
        raise NriError("the runtime's answer to the registration cannot be decoded") from None
    if status.code:
        raise NriError(f"the runtime refused the plug-in: {_quoted(status.message)} (code {status.code})")


def _quoted(text: str) -> str:
    return printable_path(text[:_MAX_QUOTED_CHARACTERS])
