# SPDX-License-Identifier: Apache-2.0
"""The start of a run on the live node. The order keeps it short: what takes long goes on beside the compiler.

This thread loads, opens and attaches, and gives up its rights (docs/privileges.md) before the run's threads come about.
What brings threads of its own, libraries and recovery, goes on in threads that have given them up already.
"""

import importlib
import os
import resource
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from tracer.errors import NodeUnsupportedError, UsageError
from tracer.ingest.sockets import IngestSockets
from tracer.kernel.capabilities import (
    Capabilities,
    give_up_all_but,
    hand_on,
    import_without_rights,
    in_thread,
    permitted,
)
from tracer.kernel.compiler_cache import ensure_compiler_cache
from tracer.kernel.counter_plan import CounterPlan, plan_counters
from tracer.kernel.cpus import present_cpus
from tracer.kernel.tick_load import TickLoad
from tracer.live.metrics.address import listen, url_of
from tracer.live.socket import LiveSocket
from tracer.mounts import mounts_of
from tracer.pipeline.options import RunOptions
from tracer.pipeline.users import may_turn, turn_into
from tracer.preflight.rights import (
    Circumstances,
    has_others_directories,
    hides_processes,
    kernel_circumstances,
    lacking,
    needed_to_start,
    needed_to_the_end,
)
from tracer.store.directories import sudo_caller
from tracer.store.output import PreparedOutput, make_output_for
from tracer.store.retention import Removed, Retention
from tracer.store.upload.object_store import ObjectStore
from tracer.store.upload.uploads import Uploads

if TYPE_CHECKING:
    from tracer.kernel.tick_source import KernelTickSource
    from tracer.pipeline.run import Run
    from tracer.store.recovery import Recovery


_MOUNTS = Path("/proc/self/mounts")


class Signals(Protocol):
    """Who hears that the run is to end before its time."""

    def while_importing(self) -> AbstractContextManager[None]:
        """For imports of libraries that take over signals."""

    def stop(self, run: Callable[[], None]) -> None:
        """From now on a signal calls `run`."""


class StartedRun(NamedTuple):
    """A run in progress, what its records come from, where they go, and what killed runs had left there.

    removed: older results that had to go for that, or for there to be any room at all. metrics: where they are served.
    """

    run: "Run"
    source: "KernelTickSource"
    plan: CounterPlan
    output: PreparedOutput
    recovery: "Recovery"
    removed: Removed
    metrics: str | None


def start_run(options: RunOptions, signals: Signals, on_failure: ExitStack, *, own_cgroups: bool = False) -> StartedRun:
    """Starts a run of options that were checked; what it takes is given back by `on_failure`.

    own_cgroups: who starts it removes cgroups at the end.

    Raises ProgramLoadError, NodeUnsupportedError, UsageError and OutputError.
    """
    # First, and with all rights: what fails in vain is to fail at once, and ports below 1024 are root's.
    listening = None if options.metrics is None else listen(options.metrics)
    if listening is not None:
        on_failure.callback(listening.close)
    run_id = uuid.uuid4()
    live = LiveSocket.of_option(options.socket, run_id, options.user)
    on_failure.callback(live.remove)
    ingest = None
    if options.ingest is not None:
        ingest = IngestSockets(options.ingest, options.user, options.ingest_mode)
        on_failure.callback(ingest.remove)

    # Four events, a ring and a few maps for each CPU.
    with suppress(OSError, ValueError):
        _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    asked_for = Circumstances(
        processes=options.processes_interval_ns is not None,
        hidden_senders=options.ingest is not None and hides_processes(_mounts()),
        nri=options.nri_socket is not None,
        resctrl_mount=options.resctrl_mount,
        own_cgroups=own_cgroups,
    )
    user = options.user
    if user is not None and (user.uid, user.gid) != (os.geteuid(), os.getegid()):
        if not may_turn():
            raise UsageError("--user needs root, or CAP_SETUID and CAP_SETGID")
        make_output_for(options.output, user.uid, user.gid, options.mode)
        turn_into(user, needed_to_start(asked_for))
    elif os.geteuid() != 0:
        # To the loaders, which have them of themselves only where they are root's.
        hand_on(needed_to_start(asked_for))

    # Polars' threads are for large nodes; more than two would compete with what is measured. NumPy needs none.
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import_without_rights("tracer.store.schemas")
    object_store = None if options.upload is None else _object_store(options.upload)
    uploads = None
    if object_store is not None:
        uploads = Uploads(options.output.absolute(), object_store.url, mode=options.mode)
    retention = Retention(
        options.output,
        options.identifier,
        options.keep_bytes,
        options.on_full,
        node_name=options.node_name,
        mode=options.mode,
        uploads=uploads,
    )
    output = PreparedOutput(options.output, options.mode)
    on_failure.callback(output.remove_if_empty)
    output.prepare(retention.free_space)
    plan = plan_counters(options.events)
    load = TickLoad(tick_ns=options.tick_ns, counted=plan.counted, waits=options.waits)
    on_failure.callback(load.cancel)

    # While the programs are compiled.
    with signals.while_importing():
        in_thread(Capabilities.NONE, _import_libraries)
        from tracer.kernel.cgroup_events import CgroupEvents
        from tracer.kernel.event_opener import EventOpener
        from tracer.kernel.throttling import Throttling
        from tracer.kernel.tick_source import KernelTickSource
        from tracer.pipeline.budget import share_out
        from tracer.pipeline.reading import BLOCKS
        from tracer.pipeline.run import Run
        from tracer.store.recovery import recover

    circumstances = kernel_circumstances(
        asked_for._replace(
            is_sudo=sudo_caller() is not None,
            resctrl=os.geteuid() == 0 and _uses_resctrl(options),
            others_output=has_others_directories(output.path),
        )
    )
    kept = needed_to_the_end(circumstances)
    recovery = in_thread(kept, lambda: recover(output.path, retention, identifier=options.identifier))
    is_recorder = options.recorder is not None
    budget = share_out(options.memory_limit_bytes, len(present_cpus()), BLOCKS, is_recorder=is_recorder)
    ring_bytes = options.ring_bytes or budget.ring_bytes
    source = on_failure.enter_context(KernelTickSource(load, plan, ring_bytes=ring_bytes))
    try:
        cgroup_events = on_failure.enter_context(CgroupEvents())
    except NodeUnsupportedError:
        cgroup_events = None
    throttling: Throttling | str = "--waits off"
    if options.waits:
        try:
            throttling = on_failure.enter_context(Throttling())
        except NodeUnsupportedError as error:
            throttling = str(error)
    if not circumstances.perfmon_is_enough:
        on_failure.enter_context(EventOpener())
    run = Run(options, plan, source, cgroup_events, throttling, output, budget, run_id, listening, live, ingest)
    if object_store is not None and uploads is not None:
        run.upload_to(object_store, uploads)
    source.await_programs()
    signals.stop(run.stop)
    metrics = None if listening is None else url_of(listening)
    run.start(lambda: _give_up_rights(circumstances))
    return StartedRun(run, source, plan, output, recovery, retention.removed, metrics)


def _object_store(url: str) -> ObjectStore:
    """Its library may make threads, which are to have no rights. Raises UsageError."""
    return in_thread(Capabilities.NONE, lambda: ObjectStore(url))


def _uses_resctrl(options: RunOptions) -> bool:
    if options.resctrl != "auto" or options.resctrl_mount:
        return options.resctrl != "off"
    return bool(mounts_of("resctrl", _mounts()))


def _mounts() -> str:
    return _MOUNTS.read_text(errors="surrogateescape")


def _give_up_rights(circumstances: Circumstances) -> list[str]:
    """What cannot be done without those that there were not."""
    give_up_all_but(needed_to_the_end(circumstances))
    return lacking(circumstances, permitted())


def _import_libraries() -> None:
    ensure_compiler_cache()
    for module in ("tracer.kernel.throttling", "tracer.pipeline.run", "tracer.store.recovery"):
        importlib.import_module(module)
