# SPDX-License-Identifier: Apache-2.0
"""What keeps the rows of a run: all of them in files, or the last minutes in memory."""

import threading
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from tracer.pipeline.budget import Budget
from tracer.pipeline.options import RunOptions
from tracer.pipeline.sinks.keeping import Keeping
from tracer.pipeline.sinks.recording import FlightRecorder
from tracer.pipeline.sinks.storing import Storing
from tracer.recorder.judge import Judge
from tracer.recorder.occasions import RuleLimit
from tracer.recorder.rules import parse_rules
from tracer.store.manifest import Manifest, Totals
from tracer.store.upload.uploads import Uploads
from tracer.store.writer import JournalOptions, Store


def build_keeping(
    options: RunOptions,
    output: Path,
    run_id: UUID,
    *,
    node_name: str,
    budget: Budget,
    manifest: Callable[[], Manifest],
    totals: Callable[[], Totals],
    utc_ns: Callable[[int], int],
    alarm: Callable[[str], None],
    stop_run: threading.Event,
    uploads: Uploads | None = None,
) -> Keeping:
    """`manifest` and `totals` are those of the run as of now; `utc_ns` is of a time of CLOCK_MONOTONIC.

    uploads: which files are safely elsewhere, where results are uploaded.
    """

    def new_store(run_id: UUID) -> Store:
        return Store(
            output,
            identifier=options.identifier,
            run_id=run_id,
            node_name=node_name,
            rotate_ns=options.rotate_ns,
            keep_bytes=options.keep_bytes,
            on_full=options.on_full,
            journal=JournalOptions(options.sync, alarm),
            buffer_bytes=budget.store_bytes,
            mode=options.mode,
            uploads=uploads,
        )

    if options.recorder is None:
        return Storing(new_store(run_id), manifest, stop_run, queue_bytes=budget.queue_bytes, totals=totals)
    recorder = options.recorder
    return FlightRecorder(
        stop_run,
        queue_bytes=budget.queue_bytes,
        tick_ns=options.tick_ns,
        keep_ns=recorder.keep_ns,
        memory_bytes=budget.recorder_bytes,
        after_ns=recorder.after_ns,
        judge=Judge(parse_rules(recorder.when), tick_ns=options.tick_ns, window_ticks=options.window_ticks),
        limit=RuleLimit(recorder.every_ns, recorder.most_an_hour),
        new_store=new_store,
        manifest=manifest,
        run_totals=totals,
        utc_ns=utc_ns,
        tell=alarm,
    )
