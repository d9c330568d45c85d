# SPDX-License-Identifier: Apache-2.0
"""Checks of BPF: the system call, BCC, and the tracer's own programs, compiled, loaded and attached for a moment."""

import errno
import mmap
import os
import subprocess
import sys
import time

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel import bpf
from tracer.kernel.cgroup_events_load import TRACEPOINTS, load_cgroup_events
from tracer.kernel.cpus import online_cpus
from tracer.kernel.perf_events import attach_program, open_tick
from tracer.kernel.tick_load import TickLoad
from tracer.preflight.checks import Finding
from tracer.preflight.probes import Probe, Trial

# In a child as in a run: BCC brings clang and LLVM into the process that imports it.
_IMPORT_BCC = "from tracer.kernel.loader_process import import_bcc; print(import_bcc().__version__)"
_IMPORT_SECONDS = 60
# Part of every message that says BCC is missing.
_PACKAGE = "python3-bpfcc"

_FORBIDDEN = (errno.EPERM, errno.EACCES)
_ALLOW_BPF = "run it as root (sudo); in a container, let the seccomp profile allow bpf"
_REINSTALL_BCC = f"apt-get install --reinstall {_PACKAGE}"
_WITHOUT_EVENTS = "cgroups are found by inotify instead; those that live only a few ms may stay without a name"
_NEWER = f"use a newer kernel and {_PACKAGE}, such as those of Debian 12"


def judge_bpf(error: OSError | None) -> Finding:
    """`error`: what the kernel answered when asked for a map; one that only refuses this map is an answer, too."""
    if error is None or error.errno not in (errno.ENOSYS, *_FORBIDDEN):
        return Finding("ok", "the kernel answers")
    if error.errno == errno.ENOSYS:
        return Finding("failed", "the kernel is built without BPF", "use a kernel with CONFIG_BPF_SYSCALL")
    return Finding("failed", f"the kernel forbids BPF to this process: {error.strerror}", _ALLOW_BPF)


def judge_import(said: str) -> Finding:
    """Why BCC cannot be imported, from the last line of the traceback or the loader's message."""
    reason = said.strip().split("\n")[-1].removeprefix("ImportError: ")
    if _PACKAGE in reason:
        # import_bcc() says what to do after its last colon.
        found, _, remedy = reason.rpartition(": ")
        return Finding("failed", found, remedy)
    return Finding("failed", f"BCC cannot be imported: {reason}", _REINSTALL_BCC)


def judge_load_failure(error: TracerError) -> Finding:
    """The finding for what `ProgramLoad.result` raised, in a check as in a run."""
    message = str(error)
    reason = message.removeprefix("the BPF programs cannot be loaded: ")
    if _PACKAGE in reason:
        return judge_import(reason)
    if any(os.strerror(code) in reason for code in _FORBIDDEN):
        return Finding("failed", message, _ALLOW_BPF)
    return Finding("failed", message, _NEWER)


def _bpf_syscall(_trial: Trial) -> Finding:
    try:
        os.close(_new_ring())
    except OSError as error:
        return judge_bpf(error)
    return judge_bpf(None)


def _ring_buffer(_trial: Trial) -> Finding:
    os.close(_new_ring())
    return Finding("ok", "the kernel has this type of map")


def _new_ring() -> int:
    return bpf.create_ring(mmap.PAGESIZE)


def _bcc_import(_trial: Trial) -> Finding:
    try:
        child = subprocess.run(
            [sys.executable, "-I", "-c", _IMPORT_BCC],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_IMPORT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Finding("failed", f"BCC was not imported within {_IMPORT_SECONDS} s", _REINSTALL_BCC)
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace")
        return judge_import(said or f"Python ended with code {child.returncode}")
    return Finding("ok", f"BCC {child.stdout.decode(errors='replace').strip()}")


def _bpf_load(trial: Trial) -> Finding:
    begun = time.monotonic()
    load = TickLoad(tick_ns=trial.tick_ns, counted=trial.counted)
    try:
        trial.loaded = load.result()
    except NodeUnsupportedError as error:
        return judge_load_failure(error)
    finally:
        load.cancel()
    return Finding("ok", f"compiled and loaded in {time.monotonic() - begun:.1f} s")


def _array_of_maps(trial: Trial) -> Finding:
    ring = _new_ring()
    try:
        bpf.set_descriptor(trial.programs["rings"], 0, ring)
    finally:
        os.close(ring)
    return Finding("ok", "takes a ring for a CPU")


def _raw_tracepoint(trial: Trial) -> Finding:
    os.close(bpf.attach_raw_tracepoint("sched_switch", trial.programs["sched_switch"]))
    return Finding("ok", "sched_switch takes the program")


def _tick_program(trial: Trial) -> Finding:
    tick = open_tick(online_cpus()[0], trial.tick_ns)
    try:
        attach_program(tick, trial.programs["tick"])
    finally:
        os.close(tick)
    return Finding("ok", "the tick event takes the program")


def _cgroup_events(_trial: Trial) -> Finding:
    load = load_cgroup_events(2 * mmap.PAGESIZE)
    try:
        programs = load.result()
    finally:
        load.cancel()
    try:
        for name in TRACEPOINTS:
            os.close(bpf.attach_raw_tracepoint(name, programs[name]))
    finally:
        programs.close()
    return Finding("ok", "the kernel tells of each cgroup that comes and goes")


PROGRAM_PROBES = (
    Probe("bpf-syscall", _bpf_syscall, _ALLOW_BPF, required=True, quick=True, needs=("machine", "privileges")),
    Probe("ring-buffer", _ring_buffer, _NEWER, required=True, quick=True, needs=("bpf-syscall",)),
    Probe("bcc-import", _bcc_import, _REINSTALL_BCC, required=True),
    Probe("bpf-load", _bpf_load, _NEWER, required=True, needs=("bpf-syscall", "ring-buffer", "bcc-import")),
    Probe("array-of-maps", _array_of_maps, _NEWER, required=True, needs=("bpf-load",)),
    Probe("raw-tracepoint", _raw_tracepoint, _NEWER, required=True, needs=("bpf-load",)),
    Probe("tick-program", _tick_program, _NEWER, required=True, needs=("bpf-load", "tick-event")),
    Probe("cgroup-events", _cgroup_events, _WITHOUT_EVENTS, needs=("bpf-load",)),
)
