# SPDX-License-Identifier: Apache-2.0
"""What the service manager that started a run hears of it: sd_notify(3), datagrams to a socket that it names.

Its watchdog is fed by who sees that the run is at its work (`pulse.py`), and by nobody else: a run whose ticks stop is
killed and started anew.
"""

import os
import socket
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Final

_VARIABLE: Final = "NOTIFY_SOCKET"
# Each one is a message to whoever watches the unit.
_STATUS_EVERY_SECONDS: Final = 5.0


class ServiceManager:
    """One, or none, to whom all of this is nothing. From one thread. Nothing waits for it, and nothing is raised."""

    def __init__(self, address: str | None = None) -> None:
        """`address`: a path, or the name of an abstract socket with `@` for the null byte before it."""
        self._address = address.replace("@", "\0", 1) if address and address.startswith("@") else address
        self._is_ready = False
        self._next_status = 0.0

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str] = os.environ) -> "ServiceManager":
        """As told by the environment, from which it goes: what is started from here is not the service."""
        return cls(environment.pop(_VARIABLE, None))

    def is_at_work(self, status: Callable[[], str]) -> None:
        """Ready, the first time; afterwards alive. `status` is asked for a line for people, not at each call."""
        if self._address is None:
            return
        messages = ["WATCHDOG=1" if self._is_ready else "READY=1"]
        if not self._is_ready or time.monotonic() >= self._next_status:
            messages.append(f"STATUS={' '.join(status().split())}")
            self._next_status = time.monotonic() + _STATUS_EVERY_SECONDS
        self._is_ready = True
        self._send(messages)

    def is_stopping(self) -> None:
        """What is left to be written takes as long as the unit gives it."""
        self._send(["STOPPING=1", "STATUS=writing what is left"])

    def _send(self, messages: list[str]) -> None:
        if self._address is None:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.sendto("\n".join(messages).encode(), self._address)
