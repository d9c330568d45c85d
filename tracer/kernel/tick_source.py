# SPDX-License-Identifier: Apache-2.0
"""The live node as a source of tick records: programs loaded, events open on each online CPU, rings mapped."""

import errno
import logging
import mmap
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Self

import numpy as np

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel import bpf
from tracer.kernel.clock import kernel_clock_offset_ns
from tracer.kernel.counter_plan import CounterPlan, CpuPlan, plan_cpu
from tracer.kernel.cpus import online_cpus, present_cpus
from tracer.kernel.loader import Programs
from tracer.kernel.perf_events import (
    HELD_BY_OTHERS,
    CpuCounters,
    CpuOfflineError,
    EventTimes,
    attach_program,
    coverage,
    disable,
    enable_in_phase,
    open_counters,
    open_tick,
    read_times,
)
from tracer.kernel.program_cost import ProgramCost
from tracer.kernel.records import CPU_STATE
from tracer.kernel.rings import Rings, default_ring_bytes
from tracer.kernel.tick_load import EXEC_RUNTIME, TickLoad

_log = logging.getLogger(__name__)

_CLOCK_READINGS = 20
# For so long the kernel measures what the programs cost.
_COST_NS = 2_000_000_000
_WAKE_UPS = ("sched_wakeup", "sched_wakeup_new")
_COUNTER_MAPS = ("counter0", "counter1", "counter2")
# The programs are compiled for the counters that there were.
_NOT_IN_THIS_RUN = "no CPU could count it when the run began"


class CpuLosses(NamedTuple):
    """Records of one CPU that did not arrive, since the start, by cause.

    `missing` is what the sequence numbers say. Once everything is drained it is the sum of the causes; while records
    are on their way it can be behind.
    """

    missing: int
    ring_full: int
    no_ring: int
    malformed: int


class Switches(NamedTuple):
    """Context switches of the node since boot by the kernel's count, what the programs saw, and what they did not see.

    unseen: times another task was found running than the last switch had left there; the kernel does not tell of every
    switch. unseen_ns: time of the intervals, at most a tick each, at whose ends it was found.
    """

    of_node: int
    seen: int
    unseen: int
    unseen_ns: int


class Waits(NamedTuple):
    """What is not known of tasks' waiting: waits whose beginning is not, and what was cut off longer ones."""

    unknown: int
    cut_ns: int


class _OnlineCpu:
    """The events of one CPU while it is online."""

    def __init__(self, counters: CpuCounters, tick_fd: int) -> None:
        self.tick_fd = tick_fd
        self.tick_times = EventTimes(0, 0)
        self.take(counters)

    def take(self, counters: CpuCounters) -> None:
        """From now on these are its counters."""
        self.counters = counters
        self.counter_times = counters.read_times()

    def close(self) -> None:
        self.counters.close()
        os.close(self.tick_fd)


class KernelTickSource:
    """Owns everything in the kernel that belongs to a run; all of it goes when this process does.

    It takes over a load under way, for which `start` waits.
    """

    def __init__(self, load: TickLoad, plan: CounterPlan, *, ring_bytes: int | None = None) -> None:
        self.tick_ns = load.tick_ns
        self._load = load
        self._plan = plan
        self._counting = dict(plan.cpus)
        # Why CPUs that are online have neither tick nor counters.
        self._without_events: dict[int, str] = {}
        self.rings = Rings(load.cpus, ring_bytes or default_ring_bytes(len(present_cpus())), load.tick_ns)
        self._programs: Programs | None = None
        self._states_map: mmap.mmap | None = None
        self._states = np.zeros(0, CPU_STATE)
        self._switch_fd: int | None = None
        self._cpus: dict[int, _OnlineCpu] = {}
        self._coverage: dict[int, tuple[float | None, ...]] = {}
        # CPUs come and go while others read their events.
        self._lock = threading.Lock()
        self.first_tick = 0
        self._cost: ProgramCost | None = None
        # Of all CPUs, up to when they were counted.
        self._cpu_ticks = 0.0
        self._ticks_until_ns = 0
        self._switches_at_end: tuple[int, int] | None = None
        self._wakeup_fds: list[int] = []
        self.tells_readiness = True
        """Whether the kernel says of a task that is switched out if it could have gone on."""
        self.clock_offset_ns = 0
        """What CLOCK_MONOTONIC here is ahead of the one that other programs' stamps are of."""

    @property
    def programs(self) -> Programs:
        """The loaded programs; only after `start`."""
        assert self._programs is not None
        return self._programs

    @property
    def counted(self) -> list[bool]:
        """Of each counter, whether any CPU counts it in this run."""
        return self._plan.counted

    @property
    def follows_waits(self) -> bool:
        """Whether waiting for a CPU is told."""
        return self._load.waits

    @property
    def tells_stolen(self) -> bool:
        """Whether it is told what hypervisor and interrupts took of the CPU time."""
        return EXEC_RUNTIME in self.programs.definitions

    @property
    def online(self) -> list[int]:
        """CPUs that are measured now."""
        return sorted(self._cpus)

    def await_programs(self) -> None:
        """Waits until the programs are loaded. Raises ProgramLoadError."""
        if self._programs is None:
            self._programs = self._load.result()

    def counting(self) -> dict[int, CpuPlan]:
        """By CPU which events it counts, and why not the others; also of CPUs that went offline, as it was then.

        The same object as last time for a CPU whose events were not opened anew.
        """
        with self._lock:
            return dict(self._counting)

    def start(self) -> None:
        """Attaches everything and sets `first_tick`, from which on each online CPU's time is accounted in full.

        Raises NodeUnsupportedError.
        """
        self.await_programs()
        size = self._load.cpus * CPU_STATE.itemsize
        try:
            self._states_map = mmap.mmap(self.programs["states"], size, mmap.MAP_SHARED)
            self._states = np.frombuffer(self._states_map, CPU_STATE, self._load.cpus)
            self.clock_offset_ns = self._measure_clock()
            self._states["clock_offset_ns"] = np.uint64(self.clock_offset_ns & 0xFFFFFFFFFFFFFFFF)
            # Offline ones too: what a CPU does before the next look at it has a ring to go to.
            for cpu in present_cpus():
                self.rings.add(cpu, self.programs["rings"])
            for cpu in online_cpus():
                self._open_cpu(cpu, self._plan.cpus.get(cpu))
            if not self._cpus:
                raise NodeUnsupportedError("no CPU could be opened for measuring")
            self._attach()
        except OSError as error:
            raise NodeUnsupportedError(f"the kernel refused a BPF map or program: {error.strerror}") from error
        self._cost = ProgramCost({name: self.programs[name] for name in self._attached}, self._runs)
        self._enable_ticks(self._cpus)
        self.first_tick = self.poke() + 1
        self.rings.bound(first_tick=self.first_tick)

    def poke(self) -> int:
        """Makes each CPU account the interval it is in, as a tick would; returns the tick in which all were done.

        The interrupt goes to each CPU from another one and in the middle of a tick, so that it meets no tick there.
        """
        with self._lock:
            allowed = os.sched_getaffinity(0)
            begun = _monotonic_ns() // self.tick_ns
            time.sleep(max(0, (begun + 1.5) * self.tick_ns - _monotonic_ns()) / 1e9)
            for cpu in self.online:
                try:
                    if others := allowed - {cpu}:
                        os.sched_setaffinity(0, others)
                    bpf.run_on_cpu(self.programs["poke"], cpu)
                except OSError as error:
                    # It went offline, or this kernel cannot run a program on demand: the tick does it, if later.
                    _log.debug("cannot poke CPU %d: %s", cpu, error)
            os.sched_setaffinity(0, allowed)
            return _monotonic_ns() // self.tick_ns

    def maintain(self) -> list[str]:
        """Follows CPUs that went offline or came online, and counters that were given back; returns what changed.

        In words. Call it about each second. A CPU that cannot be measured now is tried again.
        """
        with self._lock:
            changes: list[str] = []
            if self._switch_fd is None:
                return changes
            if self._cost is not None and _monotonic_ns() >= self.first_tick * self.tick_ns + _COST_NS:
                self._cost.end()
            online = set(online_cpus())
            for cpu in [cpu for cpu in self._cpus if cpu not in online or self._is_dead(cpu)]:
                self._close_cpu(cpu)
                changes.append(f"CPU {cpu} went offline")
            for cpu in sorted(online - set(self._cpus)):
                changes += self._begin_cpu(cpu)
            for cpu in self._cpus:
                changes += self._take_back(cpu)
            return changes

    def bring_in_phase(self) -> None:
        """Makes the ticks come just after their boundaries again: the kernel starts one that it held up at any time."""
        with self._lock:
            for opened in self._cpus.values():
                # Of a CPU that goes offline at this moment there are none to be had.
                with suppress(TracerError):
                    disable(opened.tick_fd)
                    enable_in_phase([opened.tick_fd], self.tick_ns)

    def take_coverage(self) -> dict[int, tuple[float | None, ...]]:
        """Per CPU, for each counter, the share of the time since the last call in which it counted; None if not open.

        A CPU that is not measured any more keeps its last shares, for what of its records is still on the way.
        """
        with self._lock:
            for cpu, opened in self._cpus.items():
                now = opened.counters.read_times()
                last = self._coverage.get(cpu, (None,) * len(now))
                self._coverage[cpu] = tuple(
                    None if before is None or after is None else _share(before, after, share)
                    for before, after, share in zip(opened.counter_times, now, last, strict=True)
                )
                opened.counter_times = now
            return dict(self._coverage)

    def losses(self) -> dict[int, CpuLosses]:
        """What was lost so far on each CPU that has a ring."""
        losses = {}
        for cpu in range(self._load.cpus):
            if cpu not in self.rings:
                continue
            state, counts = self._states[cpu], self.rings.counts(cpu)
            missing = counts.missing
            if self._switch_fd is None:
                # Drained and detached: what the CPU numbered after the last record that arrived is lost as well.
                missing += (int(state["sequence"]) - counts.expected) & 0xFFFFFFFF
            losses[cpu] = CpuLosses(missing, int(state["lost_ring_full"]), int(state["lost_no_ring"]), counts.malformed)
        return losses

    def switches(self) -> Switches:
        """What the programs saw of context switches, over all CPUs while they were attached."""
        unseen = (int(self._states[name].sum()) for name in ("unseen", "unseen_ns"))
        return Switches(*(self._switches_at_end or self._switches_now()), *unseen)

    def _switches_now(self) -> tuple[int, int]:
        """By the kernel's own count and by the programs'."""
        return _context_switches(), int(self._states["switches"].sum())

    def waits(self) -> Waits:
        """What the programs could not follow of tasks that waited, over all CPUs while they were attached."""
        return Waits(*(int(self._states[name].sum()) for name in ("waits_unknown", "waits_cut_ns")))

    def kernel_time_ns(self) -> int | None:
        """CPU time of the programs since the start, by what a switch and a tick cost in the first seconds.

        At the most: as if each CPU that is online had ticked all the time. None where the kernel did not tell.
        """
        return None if self._cost is None else self._cost.time_ns()

    def recursion_misses(self) -> int:
        """Times a program was not run because it was already running on its CPU, or a map call held it off."""
        return sum(bpf.program_statistics(self.programs[name]).get("recursion_misses", 0) for name in self._attached)

    def detach(self) -> None:
        """Stops the programs; what they sent stays in the rings."""
        self.take_coverage()
        with self._lock:
            # The ticks first: without switches they would find tasks that they know nothing of.
            for cpu in list(self._cpus):
                self._cpus.pop(cpu).close()
            if self._switch_fd is not None:
                # Of one moment: the programs see more of them until they are gone.
                self._switches_at_end = self._switches_now()
                os.close(self._switch_fd)
                self._switch_fd = None
            if self._cost is not None:
                self._cost.close()
            while self._wakeup_fds:
                os.close(self._wakeup_fds.pop())

    def close(self) -> None:
        """Gives everything back to the kernel. Can be called at any time and twice."""
        self.detach()
        if self._programs is None:
            self._load.cancel()
        else:
            self._programs.close()
        self.rings.close()
        self._states = np.zeros(0, CPU_STATE)
        self._states_map = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    @property
    def _attached(self) -> tuple[str, ...]:
        """Programs that run."""
        switch = "sched_switch" if self.tells_readiness else "sched_switch_untold"
        return (switch, "tick", *(_WAKE_UPS if self._load.waits else ()))

    def _runs(self) -> tuple[int, int]:
        """Switches, and ticks of all CPUs while they were online."""
        now_ns = _monotonic_ns()
        if self._ticks_until_ns:
            self._cpu_ticks += len(self._cpus) * (now_ns - self._ticks_until_ns) / self.tick_ns
        self._ticks_until_ns = now_ns
        return self.switches().seen, int(self._cpu_ticks)

    def _attach(self) -> None:
        if not self._load.waits:
            self._switch_fd = bpf.attach_raw_tracepoint("sched_switch", self.programs["sched_switch"])
            return
        # Before the switches, which count each task that runs without having been woken.
        for name in _WAKE_UPS:
            self._wakeup_fds.append(bpf.attach_raw_tracepoint(name, self.programs[name]))
        try:
            self._switch_fd = bpf.attach_raw_tracepoint("sched_switch", self.programs["sched_switch"])
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            # The program looks at an argument that the tracepoint has since Linux kernel commit 9c2136be0878
            # ("sched/tracing: Append prev_state to tp args instead") (in v5.18).
            self._switch_fd = bpf.attach_raw_tracepoint("sched_switch", self.programs["sched_switch_untold"])
            self.tells_readiness = False

    def _measure_clock(self) -> int:
        """See `kernel_clock_offset_ns`. Nothing is attached yet, so the state is only ours."""
        cpu = min(os.sched_getaffinity(0))
        readings = []
        try:
            for _ in range(_CLOCK_READINGS):
                before = _monotonic_ns()
                bpf.run_on_cpu(self.programs["poke"], cpu)
                readings.append((before, int(self._states["last_ns"][cpu]), _monotonic_ns()))
        except OSError as error:
            # Before v5.10 no program runs on demand. Then there is no telling.
            _log.debug("cannot read the kernel's clock: %s", error)
            return 0
        finally:
            self._states[cpu] = np.zeros(1, CPU_STATE)[0]
        return kernel_clock_offset_ns(readings)

    def _open_cpu(self, cpu: int, plan: CpuPlan | None = None) -> bool:
        """Gives a CPU its ring and events, as planned or else as they can be had; False if it is offline."""
        try:
            if cpu not in self.rings:
                self.rings.add(cpu, self.programs["rings"])
            counters = self._open_counters(cpu, plan)
        except CpuOfflineError:
            return False
        try:
            tick_fd = open_tick(cpu, self.tick_ns)
        except CpuOfflineError:
            counters.close()
            return False
        except BaseException:
            counters.close()
            raise
        self._cpus[cpu] = _OnlineCpu(counters, tick_fd)
        return True

    def _open_counters(self, cpu: int, plan: CpuPlan | None = None) -> CpuCounters:
        """Gives a CPU its counters, as planned or else as they can be had. Raises CpuOfflineError."""
        plan = plan or plan_cpu(cpu, self._plan.specs)
        reasons = [
            why if is_counted else why or _NOT_IN_THIS_RUN
            for why, is_counted in zip(plan.reasons, self._plan.counted, strict=True)
        ]
        events = [event if why is None else None for event, why in zip(plan.events, reasons, strict=True)]
        counters = open_counters(cpu, events, grouped=plan.grouped)
        try:
            for name, fd in zip(_COUNTER_MAPS, counters.fds, strict=True):
                if fd is not None:
                    bpf.set_descriptor(self.programs[name], cpu, fd)
                else:
                    bpf.clear_descriptor(self.programs[name], cpu)
        except BaseException:
            counters.close()
            raise
        # Somebody may have been faster meanwhile.
        refused = zip(reasons, counters.reasons, strict=True)
        self._counting[cpu] = plan._replace(reasons=tuple(why or now for why, now in refused))
        return counters

    def _begin_cpu(self, cpu: int) -> list[str]:
        """Measures a CPU that came online; what there is to say of it."""
        try:
            if not self._open_cpu(cpu):
                return []
            self._enable_ticks([cpu])
        except (TracerError, OSError) as error:
            if cpu in self._cpus:
                self._close_cpu(cpu)
            before, self._without_events[cpu] = self._without_events.get(cpu), str(error)
            return [] if before == str(error) else [f"CPU {cpu} is online without its tick and counters: {error}"]
        self._without_events.pop(cpu, None)
        return [f"CPU {cpu} came online", *self._uncounted(cpu)]

    def _take_back(self, cpu: int) -> list[str]:
        """Opens the counters of a CPU anew if somebody gave one of them back; what there is to say of it."""
        before = self._counting[cpu]
        held = [
            event if why == HELD_BY_OTHERS and counted else None
            for event, why, counted in zip(before.events, before.reasons, self._plan.counted, strict=True)
        ]
        if not any(held):
            return []
        try:
            with open_counters(cpu, held) as tried:
                if not any(tried.fds):
                    return []
            opened = self._open_counters(cpu)
        except (TracerError, OSError) as error:
            # It went offline, or the process has no room for more files; it is tried again.
            _log.debug("cannot open the counters of CPU %d: %s", cpu, error)
            return []
        self._cpus[cpu].counters.close()
        self._cpus[cpu].take(opened)
        columns = [
            spec.column
            for spec, was, now in zip(self._plan.specs, before.reasons, self._counting[cpu].reasons, strict=True)
            if was is not None and now is None
        ]
        return [f"CPU {cpu} counts {', '.join(columns)} again"] if columns else []

    def _uncounted(self, cpu: int) -> list[str]:
        """What a CPU does not count, of what this run does, in words."""
        reasons = zip(self._plan.specs, self._plan.counted, self._counting[cpu].reasons, strict=True)
        return [f"CPU {cpu} does not count {spec.column}: {why}" for spec, counted, why in reasons if counted and why]

    def _enable_ticks(self, cpus: Sequence[int] | dict[int, _OnlineCpu]) -> None:
        fds = [self._cpus[cpu].tick_fd for cpu in cpus]
        for fd in fds:
            attach_program(fd, self.programs["tick"])
        try:
            enable_in_phase(fds, self.tick_ns)
        except TracerError as error:
            raise NodeUnsupportedError(str(error)) from error

    def _is_dead(self, cpu: int) -> bool:
        """Whether the kernel retired the CPU's events since the last look: it was offline for a moment."""
        opened = self._cpus[cpu]
        before, opened.tick_times = opened.tick_times, read_times(opened.tick_fd)
        return opened.tick_times.enabled_ns <= before.enabled_ns

    def _close_cpu(self, cpu: int) -> None:
        self._states["restart"][cpu] = 1
        for name in _COUNTER_MAPS:
            bpf.clear_descriptor(self.programs[name], cpu)
        self._cpus.pop(cpu).close()


def _context_switches() -> int:
    """Of the whole node since boot (proc_stat(5), `ctxt`)."""
    with open("/proc/stat", "rb") as stat:  # noqa: PTH123 - read each second
        return next(int(line.split()[1]) for line in stat if line.startswith(b"ctxt "))


def _share(before: EventTimes, after: EventTimes, last: float | None) -> float | None:
    """Share of the time in which an event counted, the last one while no time passes: its CPU is going offline."""
    share = coverage(before, after)
    return last if share is None else share


def _monotonic_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)
