# SPDX-License-Identifier: Apache-2.0
"""JSON files of others, read without trust."""

import os
import stat
from typing import TypeVar

import msgspec

MAX_BYTES = 4 * 2**20
"""Size of the largest file that is read; an OCI bundle's `config.json` has some 10-50 kB."""

T = TypeVar("T")


def read_json(path: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    """What `decoder` makes of the file at `path`; None if it is missing, too large, not a file or not as expected.

    The file itself is no symbolic link: none of the runtimes makes it one. The directories above it may be,
    since administrators do move `/var/lib/docker` and its like. Never raises, and never waits for a FIFO's writer.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return None
        return decoder.decode(os.read(descriptor, status.st_size))
    except (OSError, ValueError, RecursionError):  # UnicodeDecodeError and msgspec's errors are ValueErrors
        return None
    finally:
        os.close(descriptor)
