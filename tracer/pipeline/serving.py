# SPDX-License-Identifier: Apache-2.0
"""The thread that serves the metrics of a run, if they are asked for, and what it is made of."""

import platform
import socket
from collections.abc import Callable, Mapping

from tracer import __version__
from tracer.live.metrics.answering import Answers
from tracer.live.metrics.exposition import Exposition, Facts
from tracer.live.metrics.server import Server
from tracer.live.pulse import Pulse
from tracer.live.snapshot import Snapshot
from tracer.store.manifest import Manifest
from tracer.store.outage import Outage


def build_server(
    listening: socket.socket,
    manifest: Manifest,
    snapshot: Callable[[], Snapshot],
    *,
    pulse: Pulse,
    outage: Outage,
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
        is_output_failing=lambda: outage.is_now,
        counted=counted,
    )
    told: set[str] = set()

    def tell(error: Exception) -> None:
        if (text := f"metrics could not be served, which is a defect of the tracer: {error!r}") not in told:
            told.add(text)
            note(text)

    return Server(listening, Answers(exposition, pulse.what_is_missing), tell)
