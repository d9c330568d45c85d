# SPDX-License-Identifier: Apache-2.0
"""`-` for a file that is written: standard output."""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tracer.errors import UsageError

STANDARD_OUTPUT: Final = Path("-")
_CHUNK_BYTES: Final = 1 << 20
# As a path has it.
_URL: Final = re.compile(r"[a-z0-9]+:/")


def shown_name(path: Path) -> str:
    """What to call it in a message."""
    return "standard output" if path == STANDARD_OUTPUT else str(path)


def require_directory(path: Path, *, option: str) -> None:
    """Raises UsageError for `-` and URLs, which are no directories of this machine."""
    if path == STANDARD_OUTPUT:
        raise UsageError(f"{option} -: results are a directory of files, which standard output cannot be")
    if (url := _URL.match(str(path))) and not path.exists():
        raise UsageError(f"{option} must be a directory, not {url[0]}/…: `--upload` brings results to an object store")


@contextmanager
def file_or_stdout(path: Path, *, option: str, suffix: str, is_text: bool = False) -> Iterator[Path]:
    """The file to write, and for `-` one that is copied to standard output once it is complete.

    So nothing half done comes out. A reader that leaves early changes nothing. Raises UsageError where standard output
    is a terminal, unless it `is_text`.
    """
    if path != STANDARD_OUTPUT:
        yield path
        return
    if not is_text and sys.stdout.isatty():
        raise UsageError(f"{option} -: what comes is no text for a terminal; redirect it (> FILE, | COMMAND)")
    with tempfile.TemporaryDirectory(prefix="tracer-output-") as directory:
        whole = Path(directory, f"output{suffix}")
        yield whole
        sys.stdout.flush()
        with whole.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
