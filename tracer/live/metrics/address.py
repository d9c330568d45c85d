# SPDX-License-Identifier: Apache-2.0
"""Where the metrics are served, as it is typed: `9464`, `:9464`, `HOST:PORT` or `[IPV6]:PORT`."""

import re
import socket
from typing import Final, NamedTuple

from tracer.errors import UsageError

LOOPBACK: Final = "127.0.0.1"
_FORM: Final = re.compile(r"(?:(?:\[(?P<v6>[^\[\]\s]+)\]|(?P<host>[^\[\]:\s/]*)):)?(?P<port>[0-9]{1,5})")
_LARGEST_PORT: Final = 65535
_BACKLOG: Final = 16


class Address(NamedTuple):
    """A host's name or address, and a port; 0 is one that the kernel chooses."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Without a host, this machine alone is meant (unlike in Go's programs). Raises UsageError."""
    match = _FORM.fullmatch(text)
    if match is None or int(match["port"]) > _LARGEST_PORT:
        raise UsageError(f"not an address: {text[:80]!r} (examples: 9464, 10.0.0.7:9464, [::1]:9464, 0.0.0.0:9464)")
    return Address(match["v6"] or match["host"] or LOOPBACK, int(match["port"]))


def listen(address: Address) -> socket.socket:
    """A socket that listens there, and that no process which is started later has. Raises UsageError."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
        family, kind, protocol, _name, where = found[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _refused(address, error) from error
    try:
        # Else a port cannot be had for a minute after the tracer before had it; one that listens keeps it all the same.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise _refused(address, error) from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Where the metrics are to be had."""
    host, port, *_rest = listening.getsockname()
    return f"http://{Address(host, port)}/metrics"


def _refused(address: Address, error: Exception) -> UsageError:
    return UsageError(f"--metrics: cannot listen on {address}: {getattr(error, 'strerror', None) or error}")
