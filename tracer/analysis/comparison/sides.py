# SPDX-License-Identifier: Apache-2.0
"""What to compare, as people write it: see `tracer.analysis.recording_names`."""

from collections.abc import Sequence

from tracer.analysis.recording import Recording
from tracer.analysis.recording_names import open_named


def open_side(
    text: str, *, local: bool = False, container: str | Sequence[str] | None = None, namespace: str | None = None
) -> Recording:
    """The recording of that name. Raises UsageError as `open_named` does."""
    return open_named([text], local=local, container=container, namespace=namespace)
