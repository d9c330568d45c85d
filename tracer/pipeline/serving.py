# SPDX-License-Identifier: Apache-2.0
"""The threads that serve what a run counts, where that is asked for, and what they are made of."""

import platform
import socket
from collections.abc import Callable, Mapping
from typing import Literal

from tracer import __version__
from tracer.live.answering import LiveAnswers
from tracer.live.metrics.answering import Answers
from tracer.live.metrics.exposition import Exposition, Facts
from tracer.live.pulse import Pulse
from tracer.live.server import READING, Server
from tracer.live.snapshot import Snapshot
from tracer.store.manifest import Manifest


def build_metrics_server(
    listening: socket.socket,
    manifest: Manifest,
    snapshot: Callable[[], Snapshot],
    *,
    pulse: Pulse,
    is_output_failing: Callable[[], bool],
    is_upload_failing: Callable[[], bool],
    counted: Callable[[], Mapping[str, bool]],
    note: Callable[[str], None],
) -> Server:
    """Of a run that begins, whose `manifest` this is. counted: by counter, whether it counts now."""
    facts = Facts(
        version=__version__,
        python_version=platform.python_version(),
        node_name=manifest.host.node_name,
        kernel_release=manifest.host.kernel_release,
        machine=manifest.host.machine,
        cpu_model=manifest.host.cpu_model or "",
        start_ns=manifest.start.utc_ns,
    )
    exposition = Exposition(
        snapshot,
        facts,
        is_ready=lambda: pulse.what_is_missing() is None,
        is_output_failing=is_output_failing,
        is_upload_failing=is_upload_failing,
        counted=counted,
    )
    return Server(listening, Answers(exposition, pulse.what_is_missing), _telling(note))


def build_live_server(
    listening: socket.socket,
    snapshot: Callable[[], Snapshot],
    mark: Callable[[Literal["mark"], str | None], str],
    note: Callable[[str], None],
) -> Server:
    """For `tracer top` and `tracer mark`, on the run's socket. mark: raises UsageError where nothing is recorded."""
    answers = LiveAnswers(snapshot, lambda text: mark("mark", text))
    return Server(listening, answers, _telling(note), name="live", methods=(*READING, "POST"))


def _telling(note: Callable[[str], None]) -> Callable[[Exception], None]:
    told: set[str] = set()

    def tell(error: Exception) -> None:
        if (text := f"what is asked cannot be answered, which is a defect of the tracer: {error!r}") not in told:
            told.add(text)
            note(text)

    return tell
