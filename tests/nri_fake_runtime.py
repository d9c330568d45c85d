# SPDX-License-Identifier: Apache-2.0
"""A container runtime's side of NRI on a real socket, played step by step.

It frames by hand, with none of the tracer's framing, and sees each frame of the plug-in as it was sent.
"""

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from tracer.containers.nri import messages_pb2 as messages

PLUGIN_SERVICE = "nri.pkg.api.v1alpha1.Plugin"
REGISTRATION = bytes.fromhex(
    "00 00 00 02 00 00 00 46 00 00 00 3c 00 00 00 01 01 00 0a 1c 6e 72 69 2e 70 6b 67 2e 61 70 69 2e 76 31 61 6c 70 68"
    "61 31 2e 52 75 6e 74 69 6d 65 12 0e 52 65 67 69 73 74 65 72 50 6c 75 67 69 6e 1a 0c 0a 06 74 72 61 63 65 72 12 02"
    "39 30"
)
SECRETS = (
    "argument-that-is-secret",
    "VARIABLE=that-is-secret",
    "/mount/that/is/secret",
)

# Longer than any step takes; a test that waits as long has failed.
_TIMEOUT_SECONDS = 20


def frame(connection: int, payload: bytes) -> bytes:
    """A frame of the multiplexer."""
    return struct.pack(">II", connection, len(payload)) + payload


def ttrpc(stream: int, message_type: int, data: bytes) -> bytes:
    """A message of ttrpc."""
    return struct.pack(">IIBB", len(data), stream, message_type, 0) + data


def request(stream: int, method: str, message: Any = None, service: str = PLUGIN_SERVICE) -> bytes:
    """The framed call of a method; `message` is a message, bytes, or nothing."""
    payload = message if isinstance(message, bytes) else b"" if message is None else message.SerializeToString()
    envelope = messages.Request(service=service, method=method, payload=payload)
    return frame(1, ttrpc(stream, 1, envelope.SerializeToString()))


def registered(code: int = 0, text: str = "") -> bytes:
    """The framed answer to RegisterPlugin."""
    status = messages.Status(code=code, message=text) if code else None
    return frame(2, ttrpc(1, 2, messages.Response(status=status).SerializeToString()))


def pod(number: int, **fields: Any) -> messages.PodSandbox:
    """A pod as containerd tells of it, with the cgroupfs driver."""
    uid = f"00000000-0000-4000-8000-{number:012d}"
    parent = f"/kubepods/burstable/pod{uid}"
    sandbox_id = f"{number:064x}"
    told = messages.PodSandbox(
        id=sandbox_id,
        name=f"pod-{number}",
        uid=uid,
        namespace="shop",
        linux=messages.LinuxPodSandbox(cgroup_parent=parent, cgroups_path=f"{parent}/{sandbox_id}"),
        pid=1000 + number,
    )
    told.MergeFrom(messages.PodSandbox(**fields))
    return told


def container(number: int, of_pod: messages.PodSandbox, **fields: Any) -> messages.Container:
    """A container of a pod as containerd 1.7 tells of it: also of its arguments, environment and mounts."""
    container_id = f"c{number:063x}"
    told = messages.Container(
        id=container_id,
        pod_sandbox_id=of_pod.id,
        name=f"container-{number}",
        state=messages.CONTAINER_CREATED,
        annotations={
            "io.kubernetes.cri.image-name": f"docker.io/library/image:{number}",
            "io.kubernetes.cri.container-type": "container",
        },
        linux=messages.LinuxContainer(cgroups_path=f"{of_pod.linux.cgroup_parent}/{container_id}"),
        pid=2000 + number,
    )
    told.MergeFrom(messages.Container(**fields))
    for field_number, secret in zip((7, 8, 9), SECRETS, strict=True):
        value = secret.encode()
        told.MergeFromString(bytes([field_number << 3 | 2, len(value)]) + value)
    return told


class Reply(NamedTuple):
    """A response of the plug-in; `status` is 0 where it is OK."""

    stream: int
    status: int
    payload: bytes


class RuntimeConnection:
    """One plug-in, from the runtime's side."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.settimeout(_TIMEOUT_SECONDS)
        self._next_stream = 1

    def __enter__(self) -> "RuntimeConnection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, count: int) -> bytes:
        """Just as many bytes; fewer if the plug-in closed the connection."""
        data = b""
        while len(data) < count:
            try:
                more = self._socket.recv(count - len(data))
            except ConnectionResetError:
                break
            if not more:
                break
            data += more
        return data

    def unread_bytes(self) -> int:
        """What the plug-in sent and nobody has read yet."""
        return int.from_bytes(fcntl.ioctl(self._socket, termios.FIONREAD, bytes(4)), sys.byteorder)

    def receive_reply(self) -> Reply:
        """The next frame, which must be a whole response on the plug-in's connection."""
        connection, payload_bytes = struct.unpack(">II", self.receive(8))
        payload = self.receive(payload_bytes)
        data_bytes, stream, message_type, flags = struct.unpack_from(">IIBB", payload)
        data = payload[10:]
        assert (connection, message_type, flags, data_bytes) == (1, 2, 0, len(data))
        assert payload_bytes <= 4096
        response = messages.Response.FromString(data)
        return Reply(stream, response.status.code, response.payload)

    def call(self, method: str, message: Any = None, service: str = PLUGIN_SERVICE) -> Reply:
        """Calls a method of the plug-in and waits for the reply."""
        stream = self._next_stream
        self._next_stream += 2
        self.send(request(stream, method, message, service))
        reply = self.receive_reply()
        assert reply.stream == stream
        return reply

    def let_in(self, pods: Iterable[Any] = (), containers: Iterable[Any] = ()) -> None:
        """Registration, Configure, Synchronize."""
        assert self.receive(len(REGISTRATION)) == REGISTRATION
        self.send(registered())
        configure = messages.ConfigureRequest(runtime_name="containerd", runtime_version="1.7.24")
        configured = messages.ConfigureResponse.FromString(self.call("Configure", configure).payload)
        assert configured.events == 0x665
        synchronized = self.call("Synchronize", messages.SynchronizeRequest(pods=pods, containers=containers))
        assert synchronized == Reply(synchronized.stream, 0, b"")


class FakeRuntime:
    """Listens where a runtime would."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.settimeout(_TIMEOUT_SECONDS)
        self._listener.bind(str(path))
        self._listener.listen()

    def __enter__(self) -> "FakeRuntime":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def accept(self) -> RuntimeConnection:
        """The next connection of the plug-in."""
        connected, _address = self._listener.accept()
        return RuntimeConnection(connected)
