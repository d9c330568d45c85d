# SPDX-License-Identifier: Apache-2.0
"""Checks of the node itself: processor, privileges, cgroup2, limits, clock, and what is only good to know."""

import contextlib
import os
import platform
import re
import resource
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.runtime_state import RuntimeState
from tracer.containers.version1 import describe, find_hidden, is_hybrid
from tracer.errors import NodeUnsupportedError
from tracer.kernel.capabilities import Capabilities, permitted
from tracer.kernel.clock import clock_source
from tracer.kernel.cpus import online_cpus
from tracer.kernel.loader import machine_is_known
from tracer.mounts import Mount, mounts_of
from tracer.preflight.checks import Finding
from tracer.preflight.files import SYSCTL, read_integer, read_text
from tracer.preflight.probes import Probe, Trial
from tracer.preflight.rights import Circumstances, lacking
from tracer.readers.resctrl.file_system import ResctrlFileSystem

# Bits of include/uapi/linux/capability.h.
CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39
# PROC_USER_INIT_INO of include/linux/proc_ns.h: the user namespace of the host itself.
_HOST_USER_NAMESPACE = "user:[4026531837]"

# The kernel numbers the root of a cgroup tree 1 (kernfs_create_root() in fs/kernfs/dir.c).
_TREE_ROOT_INODE = 1

# Per CPU the tick, three counters, and two mappings of its ring, each of which keeps a descriptor.
_FILES_PER_CPU = 6
_FILES_OTHERWISE = 100

# Each reading leaves the processor, or the clock moves in steps of milliseconds.
_SLOW_CLOCK_SOURCES = {"hpet", "acpi_pm", "pit", "jiffies", "refined-jiffies", "hyperv_clocksource_msr"}


def judge_machine(name: str, *, known: bool, python_bits: int) -> Finding:
    """A 32-bit Python on a 64-bit kernel has other system call numbers than the machine's name says."""
    found = f"{name}, {python_bits}-bit Python"
    if known and python_bits == 64:
        return Finding("ok", found)
    return Finding("failed", found, "run it on x86_64 or aarch64, with a 64-bit Python")


def effective_capabilities(status: str) -> int:
    """The bits of `CapEff` in the text of `/proc/<pid>/status`; 0 where there is none."""
    match = re.search(r"^CapEff:\s*([0-9a-f]{1,16})$", status, re.MULTILINE)
    return int(match[1], 16) if match else 0


def own_capabilities() -> int:
    """The effective capabilities of this process. Raises OSError without /proc."""
    return effective_capabilities(Path("/proc/self/status").read_text(errors="replace"))


def has(capabilities: int, *bits: int) -> bool:
    """Whether all of these are among them."""
    return all(capabilities >> bit & 1 for bit in bits)


def judge_privileges(capabilities: int, user_id: int, *, host_namespace: bool) -> Finding:
    """Loading programs takes CAP_BPF, tracing with them and opening events CAP_PERFMON; CAP_SYS_ADMIN holds both."""
    if has(capabilities, CAP_SYS_ADMIN):
        held = "CAP_SYS_ADMIN"
    elif has(capabilities, CAP_BPF, CAP_PERFMON):
        held = "CAP_BPF and CAP_PERFMON"
    else:
        found = f"user id {user_id} without CAP_BPF and CAP_PERFMON"
        return Finding("failed", found, "run it as root (sudo; a container: --privileged), or with these capabilities")
    if not host_namespace:
        found = f"user id {user_id} has {held} only within a user namespace, where BPF does not accept it"
        return Finding("failed", found, "run it in the host's user namespace (podman, docker: --userns=host)")
    return Finding("ok", f"user id {user_id} with {held}")


def judge_rights(held: Capabilities) -> Finding:
    """Whether what options of a run need beyond loading is held."""
    all_options = Circumstances(processes=True, nri=True, resctrl_mount=True)
    missing = lacking(all_options, held)
    return Finding("info", "; ".join(missing)) if missing else Finding("ok", "all that options of a run need")


def judge_cgroup_tree(mount_point: Path, inode: int) -> Finding:
    """What is outside a mount of a part of the tree is measured all the same, but has no path and so no name."""
    if inode == _TREE_ROOT_INODE:
        return Finding("ok", f"the whole tree is at {mount_point}")
    return Finding(
        "warning",
        f"only a part of the tree is at {mount_point}: cgroups outside it stay without a name",
        "run it in the host's cgroup namespace, with the host's cgroup2 tree mounted",
    )


def judge_version1(hidden: str | None, *, hybrid: bool) -> Finding:
    """`hidden` tells of containers whose processes are in hierarchies of version 1 only."""
    if hidden is not None:
        remedy = "boot with systemd.unified_cgroup_hierarchy=1, so that each container has a cgroup of version 2"
        return Finding("warning", hidden, remedy)
    if hybrid:
        return Finding("ok", "hybrid, and no container of now is in hierarchies of version 1 alone")
    return Finding("ok", "there are no hierarchies of version 1")


def judge_open_files(limit: int, cpus: int) -> Finding:
    """Whether a run on so many CPUs can open all of its descriptors."""
    needed = _FILES_PER_CPU * cpus + _FILES_OTHERWISE
    found = f"a run on {cpus} CPUs opens {needed} files, the limit is {limit}"
    if limit < needed:
        return Finding("failed", found, f"raise the limit: ulimit -n {needed}, or LimitNOFILE={needed} in a unit")
    return Finding("ok", found)


def judge_clock_source(name: str | None) -> Finding:
    """The clock is read at each context switch."""
    if name is None:
        return Finding("info", "sysfs does not say")
    if name in _SLOW_CLOCK_SOURCES:
        found = f"{name}, which is slow or coarse: every context switch reads it"
        return Finding(
            "warning", found, "use the processor's own counter where it is stable (boot with clocksource=tsc)"
        )
    return Finding("ok", name)


def judge_tracefs(mounts: Iterable[Mount]) -> Finding:
    """Raw tracepoints are attached by bpf(2), which works without tracefs."""
    mount = next(iter(mounts), None)
    return Finding("info", f"mounted at {mount.mount_point}" if mount else "not mounted; nothing here needs it")


def judge_lockdown(text: str | None) -> Finding:
    """`text` is that of `/sys/kernel/security/lockdown`, such as `none [integrity] confidentiality`."""
    mode = re.search(r"\[([a-z]+)\]", text or "")
    return Finding("info", mode[1] if mode else "not shown by this kernel")


def judge_inotify(watches: int | None, instances: int | None) -> Finding:
    """Limits of one user."""
    if watches is None or instances is None:
        return Finding("info", "not in this kernel")
    return Finding("info", f"a user may have {watches} watches in {instances} instances")


def judge_resctrl(mounts: Iterable[Mount], monitored: Sequence[str], file_systems: str) -> Finding:
    """`monitored`: what it can monitor where it is mounted.

    The kernel lists the file system in `/proc/filesystems` only where the processor can monitor or allocate.
    """
    mount = next(iter(mounts), None)
    if mount is not None:
        return Finding("info", f"mounted at {mount.mount_point}; monitors {', '.join(monitored) or 'nothing'}")
    if "resctrl" in file_systems.split():
        remedy = "for the llc table: tracer run --resctrl-mount, or mount -t resctrl resctrl /sys/fs/resctrl"
        return Finding("info", "supported, not mounted", remedy)
    return Finding("info", "not supported by this processor or kernel: the llc table stays empty")


def _machine(_trial: Trial) -> Finding:
    return judge_machine(platform.machine(), known=machine_is_known(), python_bits=sys.maxsize.bit_length() + 1)


def _privileges(_trial: Trial) -> Finding:
    namespace = str(Path("/proc/self/ns/user").readlink())
    return judge_privileges(own_capabilities(), os.geteuid(), host_namespace=namespace == _HOST_USER_NAMESPACE)


def _rights(_trial: Trial) -> Finding:
    return judge_rights(permitted())


def _cgroup2(_trial: Trial) -> Finding:
    mount_point = find_cgroup2_mount()
    return judge_cgroup_tree(mount_point, mount_point.stat().st_ino)


def _version1(_trial: Trial) -> Finding:
    return judge_version1(describe(find_hidden(), RuntimeState()), hybrid=is_hybrid())


def _open_files(_trial: Trial) -> Finding:
    # A run raises its soft limit to the hard one.
    return judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1], len(online_cpus()))


def _clock_source(_trial: Trial) -> Finding:
    return judge_clock_source(clock_source())


def _tracefs(_trial: Trial) -> Finding:
    return judge_tracefs(mounts_of("tracefs", _mounts()))


def _lockdown(_trial: Trial) -> Finding:
    return judge_lockdown(read_text(Path("/sys/kernel/security/lockdown")))


def _inotify(_trial: Trial) -> Finding:
    limits = SYSCTL / "fs/inotify"
    return judge_inotify(read_integer(limits / "max_user_watches"), read_integer(limits / "max_user_instances"))


def _resctrl(_trial: Trial) -> Finding:
    mounts = mounts_of("resctrl", _mounts())
    monitored: Sequence[str] = ()
    if mounts:
        with contextlib.suppress(NodeUnsupportedError):
            monitored = ResctrlFileSystem(Path(mounts[0].mount_point)).monitoring().features
    return judge_resctrl(mounts, monitored, read_text(Path("/proc/filesystems")) or "")


def _mounts() -> str:
    return read_text(Path("/proc/self/mounts")) or ""


_MOUNT_PROC = "mount /proc"

NODE_PROBES = (
    Probe("machine", _machine, "run it on 64-bit Linux", required=True, quick=True),
    Probe("privileges", _privileges, _MOUNT_PROC, required=True, quick=True),
    Probe("cgroup2", _cgroup2, "mount the cgroup2 tree", required=True, quick=True),
    Probe("cgroup-version1", _version1, _MOUNT_PROC, needs=("cgroup2",)),
    Probe("open-files", _open_files, "mount /sys", required=True, quick=True),
    Probe("clock-source", _clock_source, "mount /sys"),
)
INFORMATION_PROBES = (
    Probe("capabilities", _rights, _MOUNT_PROC),
    Probe("tracefs", _tracefs, _MOUNT_PROC),
    Probe("lockdown", _lockdown, "mount /sys"),
    Probe("inotify", _inotify, _MOUNT_PROC),
    Probe("resctrl", _resctrl, _MOUNT_PROC),
)
