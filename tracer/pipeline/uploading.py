# SPDX-License-Identifier: Apache-2.0
"""The thread that uploads what a run has closed. Nothing waits for it, and what fails in it ends nothing."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

from tracer.kernel.capabilities import Capabilities, give_up_all_but
from tracer.store.hours import hour_of
from tracer.store.upload.course import Course, bandwidth, share_of_cpu
from tracer.store.upload.object_store import ObjectStore, UploadError
from tracer.store.upload.uploader import Left, Uploader
from tracer.store.upload.uploads import Uploads
from tracer.store.upload.what_is_here import Node

_LOOK_SECONDS: Final = 30.0
# Rows of the last windows come after their hour.
_LATE_SECONDS: Final = 60.0
# While the run goes on, of one CPU.
_CPU_SHARE: Final = 0.03
_LEAST_NICE: Final = 19
_OTHERS_FILES: Final = Capabilities.CHOWN | Capabilities.DAC_OVERRIDE | Capabilities.FOWNER
# For what is between two parts of a file to be left properly.
_ABANDONED_SECONDS: Final = 1.0


class UploadedSoFar(NamedTuple):
    """files, bytes: sent. left: closed files that are not there, None until the run is over. damaged: passed over."""

    url: str
    files: int
    bytes: int
    left: Left | None
    damaged: int
    reason: str | None
    """Why the last attempt failed, if it did."""


class Uploading(threading.Thread):
    """Uploads hours that are over, and runs; at the end what is left."""

    def __init__(
        self,
        output: Path,
        store: ObjectStore,
        uploads: Uploads,
        *,
        node: Node,
        own: UUID | None,
        rotate_ns: int,
        bytes_per_second: int | None,
        utc_ns: Callable[[], int],
        note: Callable[[str], None],
    ) -> None:
        """own: the run that goes on, unless its rows are kept in memory. `note`: of what the user is to know."""
        super().__init__(name="tracer-uploading", daemon=True)
        self._own = own
        self._wait_ns = rotate_ns + int(_LATE_SECONDS * 1e9)
        self._utc_ns = utc_ns
        self._note = note
        self._is_ending = threading.Event()
        self._is_abandoned = threading.Event()
        self._course = Course(store.url, note)
        self._url = store.url
        self._failure: UploadError | None = None
        self._left: Left | None = None
        self._damaged_told: set[str] = set()
        self._uploader = Uploader(
            output,
            store,
            uploads,
            node=node,
            pace=bandwidth(bytes_per_second, self._wait_or_abandon),
            pause=share_of_cpu(_CPU_SHARE, self._is_ending.wait),
        )

    @property
    def so_far(self) -> UploadedSoFar:
        """As of now."""
        done, failure = self._uploader.done, self._failure
        reason = None if failure is None else str(failure)
        return UploadedSoFar(self._url, done.files, done.bytes, self._left, len(self._uploader.damaged), reason)

    def run(self) -> None:
        """Called by the thread."""
        # What speaks with the network has no rights, but for results that are somebody else's. Whatever else wants the
        # CPU goes first. Threads that the library makes are like this one.
        with suppress(OSError):
            give_up_all_but(_OTHERS_FILES)
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LEAST_NICE)
        while not self._is_ending.is_set():
            self._is_ending.wait(self._upload())
        while not self._is_abandoned.is_set():
            wait = self._upload(is_last=True)
            if self._failure is None or self._failure.is_lasting:
                break
            self._is_abandoned.wait(wait)
        self._count_left()

    def finish(self, seconds: float) -> None:
        """All files are closed: uploads what is left, for so long; what cannot be is in `so_far`."""
        self._is_ending.set()
        self.join(seconds)
        if self.is_alive():
            self._is_abandoned.set()
            self.join(_ABANDONED_SECONDS)
        if self._left is None:
            self._count_left()

    def _upload(self, *, is_last: bool = False) -> float:
        """How many seconds to wait before the next time."""
        until_hour = None if is_last else hour_of((self._utc_ns() - self._wait_ns) // 1_000)
        try:
            self._failure = self._uploader.upload(own=self._own, until_hour=until_hour)
        except Exception as error:
            self._failure = UploadError(f"a defect of the tracer: {error!r}", is_lasting=True)
        self._tell_damaged()
        if self._failure is not None:
            return self._course.fail(self._failure)
        self._course.succeed()
        return _LOOK_SECONDS

    def _tell_damaged(self) -> None:
        for path, reason in list(self._uploader.damaged.items()):
            if path not in self._damaged_told:
                self._damaged_told.add(path)
                self._note(f"{path} is not uploaded, as it cannot be read: {reason}")

    def _count_left(self) -> None:
        self._left = self._uploader.left(own=self._own)

    def _wait_or_abandon(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        if self._is_abandoned.wait(max(0.0, end - time.monotonic())):
            raise UploadError("the run has ended", is_lasting=False)
