# SPDX-License-Identifier: Apache-2.0
"""What has to be restored if everybody who could do it is killed: a file that is locked while one of them lives.

There is one for the node, so one experiment at a time. The lock belongs to the open file that the experiment and its
pulser share, and goes with the last of the two, so nobody has to know processes by numbers that are used again.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from pathlib import Path
from typing import Self

import msgspec

from tracer.errors import NodeUnsupportedError, UsageError
from tracer.experiment.cgroup_control import ChangedError, Control, restore
from tracer.store.directories import kind_of, open_directory, user_name

RECORDING_PREFIX = "tracer-verify-"
"""How the name of an experiment's own temporary recording begins."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAME = "verify.json"
_LONGEST = 65_536
# The first byte of the file, which is written at the beginning and the end of each pause.
_PAUSED, _NOT_PAUSED = b"!", b"-"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What an experiment may leave behind: the cgroup at `directory`, paused, and `recording`, a directory of its own.

    Between pauses the cgroup is as it was found, and what is in the control file is nobody's business here.
    """

    boot_id: str
    directory: str
    cgroup_id: int
    control: Control
    recording: str | None


def runtime_directory() -> Path:
    """Where the state is kept until the next boot: /run/tracer, or TRACER_RUNTIME_DIRECTORY."""
    return Path(os.environ.get("TRACER_RUNTIME_DIRECTORY") or "/run/tracer")


def boot_id() -> str:
    """Of this boot, with which all limits and pauses of cgroups begin anew."""
    return _BOOT_ID.read_text().strip()


class StateFile:
    """The file, open and locked by this process or by its parent."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path

    @classmethod
    def lock(cls, directory: Path) -> Self:
        """Raises UsageError while another experiment is under way, and NodeUnsupportedError."""
        try:
            while True:
                with open_directory(directory, made=[]) as opened:
                    # A pipe would block.
                    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                    descriptor = os.open(_NAME, flags, 0o600, dir_fd=opened.descriptor)
                try:
                    _require_own(descriptor)
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # Whoever had it may have removed it just then.
                    if os.fstat(descriptor).st_nlink:
                        return cls(descriptor, directory / _NAME)
                except BaseException:
                    os.close(descriptor)
                    raise
                os.close(descriptor)
        except BlockingIOError as error:
            raise UsageError("another `tracer verify` is under way on this node; wait for its end") from error
        except OSError as error:
            raise NodeUnsupportedError(f"cannot keep a state file in {str(directory)!r}: {error.strerror}") from error

    def write(self, state: State) -> None:
        """Before the first pause. Raises NodeUnsupportedError."""
        try:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, _NOT_PAUSED + msgspec.json.encode(state), 0)
            os.fsync(self.descriptor)
        except OSError as error:
            raise NodeUnsupportedError(f"cannot write {str(self.path)!r}: {error.strerror}") from error

    def mark(self, *, is_paused: bool) -> None:
        """Before a pause begins, and after it has ended."""
        os.pwrite(self.descriptor, _PAUSED if is_paused else _NOT_PAUSED, 0)

    def read(self) -> tuple[State, bool] | None:
        """What was written, and whether a pause has not ended; None if not all was: nobody was paused yet then."""
        content = os.pread(self.descriptor, _LONGEST, 0)
        try:
            return msgspec.json.decode(content[1:], type=State), content[:1] == _PAUSED
        except msgspec.DecodeError:
            return None

    def remove(self) -> None:
        """Once everything is restored. The lock stays until `close`."""
        with contextlib.suppress(FileNotFoundError), open_directory(self.path.parent) as directory:
            os.unlink(self.path.name, dir_fd=directory.descriptor)

    def close(self) -> None:
        """Gives the lock up."""
        os.close(self.descriptor)


def _require_own(descriptor: int) -> None:
    """Raises OSError for a file that somebody else made: what it says would be put back, and removed, by root."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EEXIST, f"{_NAME} in it is {kind_of(status.st_mode)}")
    if status.st_uid != os.geteuid() or status.st_nlink > 1 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(errno.EPERM, f"{_NAME} in it is of {user_name(status.st_uid)}, or others may write to it")


def end_pause(held: StateFile) -> State | None:
    """Puts a cgroup back that is still paused, and says which; None if none is.

    Raises ChangedError where somebody else has changed it, and OSError where it cannot be put back.
    """
    left = held.read()
    if left is None or not left[1] or left[0].boot_id != boot_id():
        return None
    state = left[0]
    with contextlib.suppress(FileNotFoundError):
        directory = os.open(state.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # Another one may be called so by now. cgroup2 uses no inode again before the next boot.
            if os.fstat(directory).st_ino == state.cgroup_id:
                restore(directory, state.control)
        finally:
            os.close(directory)
    held.mark(is_paused=False)
    return state


def remove_recording(held: StateFile) -> None:
    """Removes the experiment's own temporary recording, if there is one."""
    left = held.read()
    if left is not None and left[0].recording and Path(left[0].recording).name.startswith(RECORDING_PREFIX):
        shutil.rmtree(left[0].recording, ignore_errors=True)


def restore_after_a_kill(directory: Path) -> str | None:
    """What an experiment that was killed, with its pulser, has left paused is put back; says what, for people.

    None if there is nothing, or the experiment is under way. Raises NodeUnsupportedError where it cannot be put back.
    """
    if not (directory / _NAME).exists():
        return None
    try:
        held = StateFile.lock(directory)
    except UsageError:
        return None
    try:
        try:
            state = end_pause(held)
        except ChangedError as error:
            said: str | None = f"a `tracer verify` was killed, and its suspect is left as it is now: {error}"
        except OSError as error:
            raise NodeUnsupportedError(not_restored(held, error)) from error
        else:
            said = (
                f"a `tracer verify` was killed: restored {state.control.file} of {state.directory}" if state else None
            )
        remove_recording(held)
        held.remove()
        return said
    finally:
        held.close()


def not_restored(held: StateFile, error: OSError) -> str:
    """What is to be done by hand."""
    left = held.read()
    assert left is not None
    control = left[0].control
    return (
        f"the suspect is still paused, as it cannot be put back: {error.strerror}; write {control.found!r} to "
        f"{left[0].directory}/{control.file}"
    )
