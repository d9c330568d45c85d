# SPDX-License-Identifier: Apache-2.0
"""The report on what has just been recorded, without a command of its own."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from tracer.analysis.findings import Report


def print_closing_report(output: Path, run_id: UUID, *, container: str | None = None) -> "Report":
    """Prints the report on a run that has just ended, of one victim or of all, and returns it. Raises UsageError."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from tracer.analysis.recording import open_recording
    from tracer.analysis.report import report
    from tracer.cli.printing import TextOutput
    from tracer.cli.progress import step_bar
    from tracer.cli.report_text import print_report

    recording = open_recording([output], run=str(run_id), container=container)
    with step_bar() as progress:
        found = report(recording, progress=progress)
    print_report(found, TextOutput())
    # Before what is said next, where both go to the same pipe.
    sys.stdout.flush()
    return found


def competes(found: "Report") -> bool:
    """Whether anybody lost time to another, or to a limit; kernel threads, which wait anywhere, apart."""
    return bool(found.victims or found.joint) or any(cost.container.name != "/" for cost in found.costs)
