# SPDX-License-Identifier: Apache-2.0
"""A process that does nothing but open perf events of whole CPUs for the tracer, which gave up the right to.

It is for kernels that ask for CAP_SYS_ADMIN where others ask for CAP_PERFMON. Of all capabilities it has these two. A
request is one message, with the descriptor of the group's leader attached if there is one; the answer is an errno, or 0
with the event's descriptor attached. It ends when its socket's other end is closed, so also when the tracer is killed.
"""

import errno
import os
import socket
import struct
import subprocess
import sys
from typing import Final, Self

from tracer.kernel.capabilities import Capabilities, give_up_all_but
from tracer.kernel.perf_events import NO_GROUP, CpuEvent, CpuOfflineError, open_event, open_events_by

KEPT: Final = Capabilities.SYS_ADMIN | Capabilities.PERFMON

_REQUEST: Final = struct.Struct("=iIQQ")
_ANSWER: Final = struct.Struct("=i")


class EventOpener:
    """Opens what the kernel does not let this process open any more, from when it is made until it is closed."""

    def __init__(self) -> None:
        """This process has the capabilities still. Raises OSError."""
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", "tracer.kernel.event_opener", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # A Ctrl-C is the tracer's to handle.
                start_new_session=True,
            )
        open_events_by(self.open)

    def open(self, event: CpuEvent) -> int:
        """A descriptor of the event, not yet enabled. Raises OSError, CpuOfflineError."""
        request = _REQUEST.pack(event.cpu, event.type, event.config, event.sample_period)
        socket.send_fds(self._socket, [request], [] if event.leader == NO_GROUP else [event.leader])
        answer, descriptors, _flags, _address = socket.recv_fds(self._socket, _ANSWER.size, 1)
        if not answer:
            raise OSError(errno.EPIPE, "the process that opens events has ended")
        (code,) = _ANSWER.unpack(answer)
        if code == errno.ENODEV:
            raise CpuOfflineError(f"CPU {event.cpu} is offline")
        if code:
            raise OSError(code, os.strerror(code))
        return descriptors[0]

    def close(self) -> None:
        """Ends the process, and waits for that. Can be called twice."""
        open_events_by(None)
        self._socket.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def main() -> None:
    """Entry point of the process."""
    give_up_all_but(KEPT)
    with socket.socket(fileno=int(sys.argv[1])) as requests:
        while True:
            request, leaders, _flags, _address = socket.recv_fds(requests, _REQUEST.size, 1)
            if not request:
                return
            cpu, *attributes = _REQUEST.unpack(request)
            try:
                descriptor = open_event(CpuEvent(cpu, leaders[0] if leaders else NO_GROUP, *attributes))
            except CpuOfflineError:
                requests.send(_ANSWER.pack(errno.ENODEV))
            except OSError as error:
                requests.send(_ANSWER.pack(error.errno or errno.EINVAL))
            else:
                socket.send_fds(requests, [_ANSWER.pack(0)], [descriptor])
                os.close(descriptor)
            for received in leaders:
                os.close(received)


if __name__ == "__main__":
    main()
