# SPDX-License-Identifier: Apache-2.0
"""Standard streams that may be closed, or end early, without harm to anything else."""

import io
import os
import sys
from typing import Final, TextIO

STANDARD_OUTPUT: Final = "standard output"
"""The `filename` of an OSError that writing to it raises."""


class _Writer(io.FileIO):
    """A reader of the pipe that has seen enough neither ends the command nor changes its exit code."""

    def __init__(self, descriptor: int, what: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._what = what

    def write(self, data: "bytes | memoryview") -> int:  # type: ignore[override]
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            return memoryview(data).nbytes
        except OSError as error:
            error.filename = self._what
            raise


def open_standard_streams() -> None:
    """Gives a stream that the caller closed a descriptor of its own, which would otherwise be the next file's.

    Reading from it, or printing to it, is an error; what goes to standard error has nobody to tell.
    """
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one.
            os.open(os.devnull, flags)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = _writer(1, sys.stdout, STANDARD_OUTPUT)
    sys.stderr = _writer(2, sys.stderr, "standard error")


def _writer(descriptor: int, before: TextIO | None, what: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Writer(descriptor, what)),  # type: ignore[type-var]
        encoding=before.encoding if before else None,
        errors=before.errors if before else "backslashreplace",
        # Where nothing is to be buffered (PYTHONUNBUFFERED), a line at a time is as much as anybody sees.
        line_buffering=before is None or bool(before.line_buffering or getattr(before, "write_through", False)),
    )
