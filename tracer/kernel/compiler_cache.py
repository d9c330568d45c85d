# SPDX-License-Identifier: Apache-2.0
"""Where numba keeps the compiled ring reader, also where nothing it would choose can be written."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tracer.errors import NodeUnsupportedError

_VARIABLE = "NUMBA_CACHE_DIR"
_IN_MEMORY = "/dev/shm"


def ensure_compiler_cache() -> None:
    """Call it before numba is imported. Raises NodeUnsupportedError where no directory can be written.

    numba looks beside the source, then in the user's cache directory, and fails where neither can be written: in a
    container with a read-only root, say. Then it compiles, in two seconds, into a directory of its own.
    """
    places = (Path(__file__).parent / "__pycache__", Path.home() / ".cache" / "numba")
    if _VARIABLE in os.environ or any(_can_be_written(place) for place in places):
        return
    directory = _new_directory()
    os.environ[_VARIABLE] = directory
    atexit.register(shutil.rmtree, directory, ignore_errors=True)


def _new_directory() -> str:
    prefix = "tracer-numba-"
    try:
        return tempfile.mkdtemp(prefix=prefix)
    except OSError:
        pass
    try:
        # Containers have it also where all else is read-only.
        return tempfile.mkdtemp(prefix=prefix, dir=_IN_MEMORY)
    except OSError as error:
        raise NodeUnsupportedError(
            f"no place for compiled code ({error.strerror}): set {_VARIABLE} to a directory that can be written"
        ) from error


def _can_be_written(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False
