# SPDX-License-Identifier: Apache-2.0
"""The pulser as its parent sees it."""

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

import msgspec

from tracer.errors import NodeUnsupportedError
from tracer.experiment.cgroup_control import ChangedError, Control
from tracer.experiment.pulser import END, Ended, Plan
from tracer.experiment.state_file import StateFile, end_pause, not_restored

_END_SECONDS = 30.0


class Pulsing:
    """A pulser that waits for its plan. `begin`, then `finish`; `abandon` at any time.

    It shares the locked state file, which must have been written, and the descriptor of the suspect's directory.
    """

    def __init__(self, held: StateFile, directory: int) -> None:
        self.ended: Ended | None = None
        """What it said once all slots are over; None too if it was killed."""
        self._held = held
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tracer.experiment.pulser", str(held.descriptor), str(held.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What it cannot put back its parent tries to, and tells.
            stderr=subprocess.DEVNULL,
            # In a session of its own it gets no signal that is meant for its parent's terminal.
            start_new_session=True,
            pass_fds=(held.descriptor, directory),
        )
        self._thread: threading.Thread | None = None

    def begin(self, control: Control, slots: Sequence[tuple[int, int, bool]], when_over: Callable[[], None]) -> None:
        """Sends the plan; `when_over` is called once all slots are over, for whatever reason."""
        assert self._process.stdin is not None
        plan = Plan(directory=self._directory, control=control, slots=list(slots))
        self._thread = threading.Thread(target=self._listen, args=(when_over,), name="tracer-pulsing", daemon=True)
        self._thread.start()
        # If it was killed, the thread notices.
        with suppress(BrokenPipeError):
            self._process.stdin.write(msgspec.json.encode(plan) + b"\n")
            self._process.stdin.flush()

    def finish(self) -> Ended | None:
        """Ends it, early if its slots are not over; returns what it said, None if it was killed.

        The suspect is as it was found. Raises NodeUnsupportedError where it could not be put back.
        """
        self.abandon()
        if self._thread is not None:
            self._thread.join(_END_SECONDS)
        return self.ended

    def abandon(self) -> None:
        """As `finish`. Can be called twice, and before `begin`."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.write(END)
                self._process.stdin.close()
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._restore()

    def _restore(self) -> None:
        """In its place, if it was killed in a pause."""
        try:
            end_pause(self._held)
        except ChangedError:
            # What is there now is somebody else's.
            self._held.mark(is_paused=False)
        except OSError as error:
            raise NodeUnsupportedError(not_restored(self._held, error)) from error

    def _listen(self, when_over: Callable[[], None]) -> None:
        assert self._process.stdout is not None
        try:
            if line := self._process.stdout.readline():
                self.ended = msgspec.json.decode(line, type=Ended)
            else:
                self._process.wait()
                # `finish` says what went wrong.
                with suppress(NodeUnsupportedError):
                    self._restore()
        finally:
            when_over()
