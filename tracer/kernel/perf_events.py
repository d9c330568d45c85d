# SPDX-License-Identifier: Apache-2.0
"""Perf events of one CPU: the counters BPF programs read, and the timer that gives them their tick.

BCC's own opener knows neither groups nor read formats nor software events, so perf_event_open(2) is called
here. Layouts and numbers: include/uapi/linux/perf_event.h.

The descriptors go into BPF perf event arrays. What an array takes and `bpf_perf_event_read` reads is decided
by `perf_event_read_local` (kernel/events/core.c): events of every type, on their own CPU, but inherited ones.
Since Linux kernel commit f91840a32dee ("perf, bpf: Add BPF support to all perf_event types") (in v4.13).
User space reads only how long an event was enabled and how long it really counted.
"""

import ctypes
import errno
import fcntl
import os
import platform
import resource
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel.cpus import online_cpus
from tracer.kernel.event_specs import PERF_COUNT_SW_CPU_CLOCK, PERF_TYPE_SOFTWARE, EventSpec

_SYSCALL_NUMBER = {"x86_64": 298, "aarch64": 241}
_FLAG_FD_CLOEXEC = 1 << 3
_FORMAT_TOTAL_TIME_ENABLED = 1 << 0
_FORMAT_TOTAL_TIME_RUNNING = 1 << 1
_DISABLED = 1 << 0
_IOC_ENABLE = 0x2400
_IOC_DISABLE = 0x2401
_IOC_SET_BPF = 0x40042408
NO_GROUP = -1
_FORBIDDEN = (errno.EPERM, errno.EACCES)

_KPROBE_TYPE = Path("/sys/bus/event_source/devices/kprobe/type")

# Longer than a sleep overshoots on a quiet node; what is left of the wait is spun away.
_SPIN_NS = 200_000

_REASONS = {
    errno.ENOENT: "the node has no PMU that counts it",
    errno.EOPNOTSUPP: "the PMU cannot count it",
    errno.EINVAL: "the kernel refuses this encoding",
    errno.ENOSYS: "the kernel is built without perf events",
    errno.EBUSY: "another user of the PMU, such as a hypervisor or a debugger, holds the counters",
    errno.EPERM: "this process may not open perf events, by a seccomp profile or a security module",
}
HELD_BY_OTHERS = f"{_REASONS[errno.EBUSY]} (EBUSY)"
"""Why an event cannot be opened now, but may be later."""

# The kernel's name for what the C library also calls ENOTSUP.
_ERRNO_NAMES = dict(errno.errorcode) | {errno.EOPNOTSUPP: "EOPNOTSUPP"}


class CpuOfflineError(TracerError):
    """The CPU went offline: its events are to be closed, and opened anew when it is back."""


class CpuEvent(NamedTuple):
    """An event of a whole CPU, by the fields of `struct perf_event_attr`; `leader` of its group, or NO_GROUP.

    config1 is an address for some events, which only this process can open then.
    """

    cpu: int
    leader: int
    type: int
    config: int
    sample_period: int = 0
    config1: int = 0


class EventTimes(NamedTuple):
    """How long an event was enabled, and how long it really counted, in nanoseconds since it was opened."""

    enabled_ns: int
    running_ns: int


class _PerfEventAttr(ctypes.Structure):
    """`struct perf_event_attr` as first published (PERF_ATTR_SIZE_VER0); kernels take the rest as zero."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("size", ctypes.c_uint32),
        ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64),
        ("sample_type", ctypes.c_uint64),
        ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
        ("wakeup_events", ctypes.c_uint32),
        ("bp_type", ctypes.c_uint32),
        ("config1", ctypes.c_uint64),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_open_elsewhere: "Callable[[CpuEvent], int] | None" = None


class CpuCounters:
    """The counter events of one CPU in the order of their specs; owns the descriptors.

    `fds[i]` is None where event i could not be opened, and `reasons[i]` then says why, or was not to be.
    """

    def __init__(self, cpu: int, fds: Sequence[int | None], reasons: Sequence[str | None]) -> None:
        self.cpu = cpu
        self.fds = tuple(fds)
        self.reasons = tuple(reasons)

    def read_times(self) -> tuple[EventTimes | None, ...]:
        """Times of each event, None for one that is not open."""
        return tuple(None if fd is None else read_times(fd) for fd in self.fds)

    def read_values(self) -> tuple[int | None, ...]:
        """What each event counted since it was opened, None for one that is not open or that the kernel withdrew.

        The kernel reads it on the event's own CPU, by an interrupt there, so that a steady event has counted something.
        """
        return tuple(None if fd is None else _read_value(fd) for fd in self.fds)

    def close(self) -> None:
        """Closes what is open. A BPF array that holds an event keeps it alive until its place is cleared."""
        fds, self.fds = self.fds, (None,) * len(self.fds)
        _close(fds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_counters(cpu: int, specs: Iterable[EventSpec | None], *, grouped: bool = True) -> CpuCounters:
    """Opens and starts the events of one CPU; those that cannot be opened are left out, with their reason.

    None in the place of an event keeps its place free.

    They form one group, so that all count over the same time; hardware and software events may be mixed.
    An event that opens alone but has no room in the group counts alone. With `grouped=False` all do, and
    their ratios then compare different times where the PMU is shared.

    Raises CpuOfflineError, and NodeUnsupportedError on a processor other than x86_64 and aarch64.
    """
    fds: list[int | None] = []
    reasons: list[str | None] = []
    leader = NO_GROUP
    try:
        for spec in specs:
            fd, reason = (None, None) if spec is None else _open_counter(cpu, spec, leader)
            fds.append(fd)
            reasons.append(reason)
            if grouped and fd is not None and leader == NO_GROUP:
                leader = fd
        # The leader last: on 6.18 a member of another PMU than the leader's (cpu-clock is one of its own) is
        # never scheduled if it joins a group that already runs.
        for fd in reversed(fds):
            if fd is not None:
                enable(fd)
    except BaseException:
        _close(fds)
        raise
    return CpuCounters(cpu, fds, reasons)


def open_tick(cpu: int, tick_ns: int) -> int:
    """A timer event that overflows every `tick_ns` on `cpu`, not yet enabled; returns its descriptor.

    It is an hrtimer in interrupt context, where a tick on a hardware event would be an NMI that can interrupt
    sched_switch. Raises CpuOfflineError, or NodeUnsupportedError since nothing can be measured without it.
    """
    try:
        return open_event(CpuEvent(cpu, NO_GROUP, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, tick_ns))
    except OSError as error:
        raise NodeUnsupportedError(f"cannot open the tick of CPU {cpu}: {explain(error)}") from error


def open_kprobe(function: str) -> int:
    """An event at each call of a function of the kernel, not yet enabled; returns its descriptor.

    Documentation/trace/kprobes.rst; by the PMU `kprobe` since Linux kernel commit e12f03d7031a ("perf/core: Implement
    the 'perf_kprobe' PMU") (in v4.17). Raises NodeUnsupportedError.
    """
    try:
        kind = int(_KPROBE_TYPE.read_text())
        name = ctypes.create_string_buffer(function.encode())
        # Of all CPUs, whichever one is named.
        return open_event(CpuEvent(online_cpus()[0], NO_GROUP, kind, 0, config1=ctypes.addressof(name)))
    except FileNotFoundError as error:
        raise NodeUnsupportedError("the kernel is built without kprobes") from error
    except OSError as error:
        raise NodeUnsupportedError(f"the kernel lets nobody probe {function}: {error.strerror}") from error


def attach_program(fd: int, program_fd: int) -> None:
    """Runs a loaded program at each overflow of the event, or at each call that a kprobe sees. Raises TracerError."""
    _ioctl(fd, _IOC_SET_BPF, program_fd, "cannot attach a BPF program to a perf event")


def enable(fd: int) -> None:
    """Starts an event that was opened disabled. Raises TracerError."""
    _ioctl(fd, _IOC_ENABLE, 0, "cannot enable a perf event")


def disable(fd: int) -> None:
    """Stops an event until it is enabled again. Raises TracerError."""
    _ioctl(fd, _IOC_DISABLE, 0, "cannot disable a perf event")


def enable_in_phase(fds: Iterable[int], tick_ns: int) -> None:
    """Enables tick events so that they overflow just after the multiples of `tick_ns` of CLOCK_MONOTONIC.

    The timer is relative to the moment of enabling and keeps that phase. As many CPUs are enabled per tick as
    fit into its first tenth, each by an interrupt to that CPU. Raises TracerError.
    """
    for fd in fds:
        while wait_ns := wait_for_phase_ns(time.clock_gettime_ns(time.CLOCK_MONOTONIC), tick_ns):
            if wait_ns > _SPIN_NS:
                time.sleep((wait_ns - _SPIN_NS) / 1e9)
        enable(fd)


def wait_for_phase_ns(now_ns: int, tick_ns: int) -> int:
    """Nanoseconds until the next multiple of `tick_ns`, or 0 within the first tenth after one."""
    phase_ns = now_ns % tick_ns
    return 0 if phase_ns * 10 < tick_ns else tick_ns - phase_ns


def read_times(fd: int) -> EventTimes:
    """Times of an event opened here; (0, 0) of one that the kernel has withdrawn. Raises TracerError."""
    record = _read(fd)
    return EventTimes(*struct.unpack("8xQQ", record)) if record else EventTimes(0, 0)


def coverage(previous: EventTimes, current: EventTimes) -> float | None:
    """Share of the time between two readings in which the event was really counted, 0 to 1.

    None where that is unknown: no time passed, or it ran backwards, as it has on old kernels. 0.0 means that
    the event was enabled and never counted, so that its value, also 0, must be published as null.
    """
    enabled_ns = current.enabled_ns - previous.enabled_ns
    if enabled_ns <= 0:
        return None
    return min(1.0, max(0.0, (current.running_ns - previous.running_ns) / enabled_ns))


def explain(error: OSError) -> str:
    """Why perf_event_open failed, for people, with the errno's name."""
    name = _ERRNO_NAMES.get(error.errno or 0, str(error.errno))
    if error.errno == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        reason = f"the process may open only {limit} files; raise the limit (ulimit -n, LimitNOFILE=)"
    elif error.errno == errno.EACCES:
        # Debian's and Ubuntu's kernels know levels above 2, at which CAP_PERFMON does not help.
        reason = f"needs CAP_SYS_ADMIN, or CAP_PERFMON if kernel.perf_event_paranoid ({_paranoid()}) is below 3"
    else:
        reason = _REASONS.get(error.errno or 0, error.strerror or "unknown error")
    return f"{reason} ({name})"


def _paranoid() -> str:
    try:
        return Path("/proc/sys/kernel/perf_event_paranoid").read_text().strip()
    except OSError:
        return "unreadable"


def _open_counter(cpu: int, spec: EventSpec, leader: int) -> tuple[int | None, str | None]:
    """The descriptor, or why there is none."""
    try:
        return open_event(CpuEvent(cpu, leader, spec.type, spec.config)), None
    except OSError as error:
        if leader == NO_GROUP:
            return None, explain(error)
    return _open_counter(cpu, spec, NO_GROUP)


def open_event(event: CpuEvent) -> int:
    """A descriptor of an event, not yet enabled, for whatever runs on its CPU. Raises OSError, CpuOfflineError."""
    try:
        return _perf_event_open(event)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise CpuOfflineError(f"CPU {event.cpu} is offline") from error
        if error.errno not in _FORBIDDEN or _open_elsewhere is None:
            raise
    return _open_elsewhere(event)


def open_events_by(opener: Callable[[CpuEvent], int] | None) -> None:
    """Who opens, from now on, the events that this process may not open; raises what `open_event` does."""
    global _open_elsewhere
    _open_elsewhere = opener


def _perf_event_open(event: CpuEvent) -> int:
    """perf_event_open(2)."""
    number = _SYSCALL_NUMBER.get(platform.machine())
    if number is None:
        raise NodeUnsupportedError(f"perf events work on x86_64 and aarch64 only, not on {platform.machine()}")
    attr = _PerfEventAttr(
        type=event.type,
        size=ctypes.sizeof(_PerfEventAttr),
        config=event.config,
        sample_period=event.sample_period,
        config1=event.config1,
        read_format=_FORMAT_TOTAL_TIME_ENABLED | _FORMAT_TOTAL_TIME_RUNNING,
        flags=_DISABLED,
    )
    every_task = ctypes.c_int(-1)
    fd = int(
        _libc.syscall(
            ctypes.c_long(number),
            ctypes.byref(attr),
            every_task,
            ctypes.c_int(event.cpu),
            ctypes.c_int(event.leader),
            ctypes.c_ulong(_FLAG_FD_CLOEXEC),
        )
    )
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def _read(fd: int) -> bytes:
    """value, time_enabled, time_running; empty for an event that the kernel has withdrawn. Raises TracerError."""
    try:
        record = os.read(fd, 24)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise TracerError(f"cannot read a perf event: {error.strerror}") from error
        return b""
    # An event in an error state reads as end of file.
    return record if len(record) == 24 else b""


def _read_value(fd: int) -> int | None:
    record = _read(fd)
    return int.from_bytes(record[:8], sys.byteorder) if record else None


def _ioctl(fd: int, request: int, argument: int, failure: str) -> None:
    try:
        fcntl.ioctl(fd, request, argument)
    except OSError as error:
        raise TracerError(f"{failure}: {error.strerror}") from error


def _close(fds: Iterable[int | None]) -> None:
    for fd in fds:
        if fd is not None:
            os.close(fd)
