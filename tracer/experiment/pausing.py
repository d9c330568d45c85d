# SPDX-License-Identifier: Apache-2.0
"""By which control file a suspect is paused."""

import os
from collections.abc import Callable
from enum import StrEnum

from tracer.errors import NodeUnsupportedError, UsageError
from tracer.experiment.cgroup_control import CPU_MAX, FREEZE, Control, read_text

# A millisecond, the least there is, in a period of a second, the longest there is (kernel/sched/core.c): a pause is
# over before there is another one.
_ALMOST_NOTHING = "1000 1000000"
# A container that stands still for longer can miss a probe or a heartbeat.
LONGEST_FREEZE_NS = 200_000_000


class How(StrEnum):
    """By a limit on CPU time, by the freezer, or by the limit if there can be one and else by the freezer."""

    auto = "auto"
    throttle = "throttle"
    freeze = "freeze"


def choose_control(directory: int, path: str, how: How, pulse_ns: int) -> Control:
    """The way to pause the cgroup whose directory is open as `directory`; nothing is changed.

    Raises UsageError for a suspect that somebody else has stopped or that cannot be paused in this way, and
    NodeUnsupportedError.
    """
    # Whoever stopped it, or one above it: then there is nothing to see.
    events = dict(line.split(" ", 1) for line in _found(directory, "cgroup.events", path).splitlines())
    if events.get("frozen") == "1" or _found(directory, FREEZE, path) != "0":
        raise UsageError(f"{path} is frozen already, and that is somebody else's")
    if how != How.freeze:
        try:
            return _throttling(directory, path)
        except (NodeUnsupportedError, UsageError):
            if how == How.throttle:
                raise
    if pulse_ns > LONGEST_FREEZE_NS:
        raise UsageError(
            f"--pulse must be 200ms or less where the suspect is frozen, as {path} is"
            + ("" if how == How.freeze else ": its CPU time cannot be limited here")
        )
    return Control(FREEZE, _writable(directory, FREEZE, path), "1")


def _throttling(directory: int, path: str) -> Control:
    found = _writable(directory, CPU_MAX, path)
    try:
        burst = read_text(directory, f"{CPU_MAX}.burst")
    except OSError:
        # Before Linux 5.14 there was none.
        burst = "0"
    if burst != "0":
        raise UsageError(
            f"{path} has a burst of CPU time ({CPU_MAX}.burst), which allows no limit below it: --by freeze"
        )
    return Control(CPU_MAX, found, _ALMOST_NOTHING)


def _found(directory: int, file: str, path: str) -> str:
    return _translated(lambda: read_text(directory, file), file, path)


def _writable(directory: int, file: str, path: str) -> str:
    """Its text, if it can be written."""

    def look() -> str:
        os.close(os.open(file, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory))
        return read_text(directory, file)

    return _translated(look, file, path)


def _translated(look: Callable[[], str], file: str, path: str) -> str:
    try:
        return look()
    except FileNotFoundError as error:
        why = "the cpu controller is not on for it" if file == CPU_MAX else "the kernel has no freezer of version 2"
        raise NodeUnsupportedError(f"{path} has no {file}: {why}") from error
    except OSError as error:
        raise NodeUnsupportedError(f"{file} of {path} cannot be written: {error.strerror}") from error
