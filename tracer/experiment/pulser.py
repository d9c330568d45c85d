# SPDX-License-Identifier: Apache-2.0
"""The process that pauses a cgroup by a schedule, and restores it whatever happens to its parent.

It is given the descriptor and the path of the locked state file, reads one `Plan` as a line of JSON from standard
input, answers with one `Ended` on standard output, and stays until its parent ends it by `END`. A parent that is killed
closes standard input without that. Everything here is small and imports little: it must be there in time.
"""

import gc
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from socket import socketpair

import msgspec

from tracer.experiment.cgroup_control import GONE, ChangedError, Control, pause, restore
from tracer.experiment.state_file import StateFile, end_pause, remove_recording

END = b"end\n"
"""What the parent writes before it closes standard input on purpose."""

_STDIN = 0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to pause, how and when.

    `directory` is the descriptor of the cgroup's directory. `slots`: from when to
    when, CLOCK_MONOTONIC in ns, in order, and whether it is paused then; for the others this process wakes up as well,
    so that it disturbs both kinds alike.
    """

    directory: int
    control: Control
    slots: list[tuple[int, int, bool]]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How many slots were gone through to their end, how late the latest one began, and why not all; None if all."""

    slots: int
    latest_ns: int
    reason: str | None


class Alarm:
    """Waits for moments, and for the end of the parent or a signal."""

    def __init__(self, wake_up: int) -> None:
        """`wake_up` is a descriptor from which numbers of signals can be read."""
        self._wake_up = wake_up
        self.ended_by: str | None = None
        self.parent_was_killed = False

    def wait_until(self, time_ns: int | None) -> bool:
        """True at that moment (CLOCK_MONOTONIC), False if something came before it."""
        while self.ended_by is None:
            left_ns = None if time_ns is None else time_ns - _now_ns()
            if left_ns is not None and left_ns <= 0:
                return True
            ready, _, _ = select.select([_STDIN, self._wake_up], [], [], None if left_ns is None else left_ns / 1e9)
            if _STDIN in ready:
                self.hear(os.read(_STDIN, len(END)))
            elif ready:
                self.ended_by = signal.Signals(os.read(self._wake_up, 1)[0]).name
        return False

    def hear(self, said: bytes) -> None:
        """What came from the parent after the plan; nothing, if it is no more."""
        self.parent_was_killed = said != END
        self.ended_by = "its parent was killed" if self.parent_was_killed else "it was ended early"


def run_slots(plan: Plan, held: StateFile, alarm: Alarm) -> Ended:
    """Goes through the slots; the cgroup is as it was found afterwards. Raises OSError where it cannot be."""
    done, latest_ns, reason = 0, 0, None
    for begin_ns, end_ns, is_paused in plan.slots:
        if not alarm.wait_until(begin_ns):
            break
        latest_ns = max(latest_ns, _now_ns() - begin_ns)
        if is_paused and _now_ns() < end_ns:
            reason = _pause_until(end_ns, plan, held, alarm)
        else:
            alarm.wait_until(end_ns)
        if reason is not None or alarm.ended_by is not None:
            break
        done += 1
    return Ended(slots=done, latest_ns=latest_ns, reason=reason or alarm.ended_by)


def _pause_until(end_ns: int, plan: Plan, held: StateFile, alarm: Alarm) -> str | None:
    """One pause; says why there cannot be another one, or None."""
    held.mark(is_paused=True)
    try:
        pause(plan.directory, plan.control)
    except ChangedError as error:
        held.mark(is_paused=False)
        return f"somebody else changed it: {error}"
    except OSError as error:
        held.mark(is_paused=False)
        if error.errno in GONE:
            return "the suspect has ended"
        return f"{plan.control.file} could not be written: {error.strerror}"
    try:
        alarm.wait_until(end_ns)
    finally:
        try:
            restore(plan.directory, plan.control)
            changed = None
        except ChangedError as error:
            changed = f"somebody else changed it: {error}"
        held.mark(is_paused=False)
    return changed


def main() -> None:
    """Entry point of the process."""
    with suppress(OSError):
        # A pause must not last longer because all CPUs are busy.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    wake_up, woken = socketpair()
    for end in (wake_up, woken):
        end.setblocking(False)
    signal.set_wakeup_fd(wake_up.fileno())
    for number in _SIGNALS:
        signal.signal(number, lambda _number, _frame: None)
    held = StateFile(int(sys.argv[1]), Path(sys.argv[2]))
    alarm = Alarm(woken.fileno())
    # It takes time, and there is nothing to collect.
    gc.disable()
    plan = _read_plan(alarm)
    if plan is not None:
        ended = run_slots(plan, held, alarm)
        with suppress(OSError):
            os.write(sys.stdout.fileno(), msgspec.json.encode(ended) + b"\n")
        # To the end of its parent, which has a recording to be removed.
        alarm.wait_until(None)
    if alarm.parent_was_killed:
        end_pause(held)
        remove_recording(held)
    held.remove()


def _read_plan(alarm: Alarm) -> Plan | None:
    """None if the parent ended it, or was killed, before it had sent one."""
    received = bytearray()
    while b"\n" not in received and (more := os.read(_STDIN, 1 << 16)):
        received += more
    line, end_of_line, rest = bytes(received).partition(b"\n")
    if not end_of_line or line + end_of_line == END:
        alarm.hear(line + end_of_line)
        return None
    if rest:
        alarm.hear(rest)
    return msgspec.json.decode(line, type=Plan)


def _now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


if __name__ == "__main__":
    main()
