# SPDX-License-Identifier: Apache-2.0
"""A plug-in of the Node Resource Interface (NRI): a container runtime itself says who its containers are.

plugin.py        the connection's life: a thread, its socket, retries
conversation.py  one connection as bytes in, replies and events out
decoding.py      events from messages
framing.py       messages from bytes
messages.proto   the fields that are read; messages_pb2 is generated from it
events.py        what the consumer gets
"""

from pathlib import Path

DEFAULT_SOCKET = Path("/var/run/nri/nri.sock")
"""Where containerd and CRI-O serve NRI unless told otherwise."""
