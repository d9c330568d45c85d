# SPDX-License-Identifier: Apache-2.0
"""Which capability (capabilities(7)) the tracer needs for what, to start and to the end, as in docs/privileges.md.

`tracer doctor` and the start of a run ask for what is needed; a run gives up the rest.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from tracer.errors import NodeUnsupportedError
from tracer.kernel import bpf
from tracer.kernel.capabilities import Capabilities, in_thread, permitted
from tracer.kernel.cpus import online_cpus, possible_cpus, present_cpus
from tracer.kernel.perf_events import open_tick
from tracer.mounts import mounts_of

_TICK_NS: Final = 1_000_000
_SHOWN: Final = ("hidepid=0", "hidepid=off")


class Circumstances(NamedTuple):
    """What a run is asked to do, and where, as far as its rights depend on it."""

    processes: bool = False
    hidden_senders: bool = False
    """Applications are heard, and `/proc` hides others' processes."""
    nri: bool = False
    resctrl: bool = False
    """It is there, and root may use it."""
    resctrl_mount: bool = False
    own_cgroups: bool = False
    """Those of `tracer demo`, which go at the end."""
    is_sudo: bool = False
    others_output: bool = False
    """Somebody else's directories are in the output: who called sudo, for one."""
    perfmon_is_enough: bool = True
    """The kernel lets CAP_PERFMON open events of whole CPUs."""
    bpf_is_asked_for: bool = False
    """The kernel wants CAP_BPF for each bpf(2)."""
    cpus_can_be_added: bool = False


class Right(NamedTuple):
    """One line of the table. `when` is the option, or what else it takes; `needed` None: only until a run has begun."""

    when: str
    capability: Capabilities
    why: str
    needed: Callable[[Circumstances], bool] | None = None


RIGHTS: Final = (
    Right("always", Capabilities.BPF, "loads the programs and makes their maps"),
    Right(
        "always",
        Capabilities.PERFMON,
        "attaches programs and opens events of whole CPUs, also of one that comes online later",
        lambda _of: True,
    ),
    Right(
        "always",
        Capabilities.DAC_READ_SEARCH,
        "reads names that runtimes keep where only they, or one user, may look",
        lambda _of: True,
    ),
    Right(
        "kernels before 5.11", Capabilities.SYS_RESOURCE, "lifts the limit on locked memory, as which maps count there"
    ),
    Right(
        "`kernel.perf_event_paranoid` above 2 (Debian, Ubuntu)",
        Capabilities.SYS_ADMIN,
        "opens the events there; to the end in a process of its own, which does only that",
    ),
    Right(
        "CPUs can be added (`possible` and `present` in `/sys/devices/system/cpu` differ)",
        Capabilities.BPF,
        "makes the ring of a CPU that is new",
        lambda of: of.cpus_can_be_added,
    ),
    Right(
        "kernels before 5.19 with `kernel.unprivileged_bpf_disabled`",
        Capabilities.BPF,
        "gives a CPU that comes online its events: they ask for it at each bpf(2)",
        lambda of: of.bpf_is_asked_for,
    ),
    Right("`--processes`", Capabilities.SYS_PTRACE, "reads the memory of each process", lambda of: of.processes),
    Right(
        "`--ingest`, where `/proc` hides others' processes (`hidepid`)",
        Capabilities.SYS_PTRACE,
        "asks in which cgroup a sender is",
        lambda of: of.hidden_senders,
    ),
    Right(
        "`--nri`, unless `off`",
        Capabilities.SYS_NICE,
        "answers the runtime at once, for which each start of a container waits",
        lambda of: of.nri,
    ),
    Right("`--resctrl-mount`", Capabilities.SYS_ADMIN, "unmounts resctrl at the end", lambda of: of.resctrl_mount),
    Right(
        "`--resctrl`, where it is mounted, by root",
        Capabilities.DAC_OVERRIDE,
        "makes and removes groups, in directories with a mode (0555) that lets nobody",
        lambda of: of.resctrl,
    ),
    Right(
        "`tracer demo`",
        Capabilities.DAC_OVERRIDE,
        "removes its cgroups from the top of the tree, which has that mode too",
        lambda of: of.own_cgroups,
    ),
    Right(
        "results in directories of somebody else, or by sudo",
        Capabilities.DAC_OVERRIDE,
        "makes and removes files there",
        lambda of: of.is_sudo or of.others_output,
    ),
    Right("`--metrics`, a port below 1024", Capabilities.NET_BIND_SERVICE, "listens there"),
    Right("`--user`", Capabilities.SETUID, "turns into the user"),
    Right("`--user`", Capabilities.SETGID, "has the user's groups then"),
    Right("`--user`, an output that is missing", Capabilities.CHOWN, "gives it to the user"),
    Right("by sudo", Capabilities.CHOWN, "gives results to who called it", lambda of: of.is_sudo),
    Right("by sudo", Capabilities.FOWNER, "sets the mode of what was given away", lambda of: of.is_sudo),
)
"""In the order of the documentation."""

TO_LOAD: Final = Capabilities.BPF | Capabilities.PERFMON
"""Without which no run can begin, unless CAP_SYS_ADMIN is there."""


def needed_to_the_end(of: Circumstances) -> Capabilities:
    """What a run keeps once its programs and events are open."""
    kept = Capabilities.NONE
    for right in RIGHTS:
        if right.needed is not None and right.needed(of):
            kept |= right.capability
    return kept


def lacking(of: Circumstances, kept: Capabilities) -> list[str]:
    """What a run is asked to do and has no right to, a line each."""
    if Capabilities.SYS_ADMIN in kept:
        # capable() in the kernel's perfmon_capable() and bpf_capable().
        kept |= TO_LOAD
    return [
        f"without {right.capability.names[0]}, which {right.why} ({right.when.replace('`', '')})"
        for right in RIGHTS
        if right.needed is not None and right.needed(of) and not right.capability & kept
    ]


def needed_to_start(of: Circumstances) -> Capabilities:
    """What a run keeps of its user's, with `--user`, until then. With CAP_SETPCAP it gives up the bounding set."""
    loading = TO_LOAD | Capabilities.SYS_ADMIN | Capabilities.SYS_RESOURCE | Capabilities.SETPCAP
    return loading | needed_to_the_end(of)


def kernel_circumstances(of: Circumstances) -> Circumstances:
    """With what this kernel asks for, as trials show. Raises NodeUnsupportedError without sysfs."""
    can_be_added = possible_cpus() != present_cpus()
    return of._replace(
        cpus_can_be_added=can_be_added,
        bpf_is_asked_for=in_thread(Capabilities.NONE, bpf.asks_for_capability),
        perfmon_is_enough=Capabilities.SYS_ADMIN not in permitted() or in_thread(Capabilities.PERFMON, _opens_tick),
    )


def hides_processes(mounts: str) -> bool:
    """Whether `/proc` shows only one's own processes, by the text of `/proc/<pid>/mounts` (proc(5), hidepid)."""
    options = [mount.options.split(",") for mount in mounts_of("proc", mounts) if mount.mount_point == "/proc"]
    return any(option.startswith("hidepid=") and option not in _SHOWN for of in options for option in of)


def has_others_directories(output: Path) -> bool:
    """Whether a directory of somebody else is there: who may not write it anyhow has to have the right to."""
    own = os.geteuid()
    try:
        return any(os.lstat(directory).st_uid != own for directory, _names, _files in os.walk(output))
    except OSError:
        return True


def _opens_tick() -> bool:
    try:
        os.close(open_tick(online_cpus()[0], _TICK_NS))
    except (NodeUnsupportedError, OSError):
        return False
    return True
