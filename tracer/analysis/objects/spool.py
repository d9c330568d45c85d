# SPDX-License-Identifier: Apache-2.0
"""A part of an object store as an output directory of this machine, for questions that read rows many times over."""

import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Final

from tracer.analysis.objects.extracting import extract
from tracer.analysis.objects.finding import Found
from tracer.errors import OutputError, UsageError
from tracer.store.periods import session_path
from tracer.units import format_bytes

# What else may want room there meanwhile.
_SHARE_OF_FREE: Final = 0.9


def spool(found: Found, tables: Collection[str]) -> Path:
    """A new temporary directory with the files of `tables`, and the manifests of their runs; whoever asked removes it.

    Raises UsageError where an object is missing or cannot be read, OutputError where there is no room for them.
    """
    files = found.files_of_periods(tables)
    store = found.store
    directory = Path(tempfile.mkdtemp(prefix="tracer-"))
    try:
        wanted = sum(file.bytes for file in files)
        free = shutil.disk_usage(directory).free
        if store.directory is None and wanted > free * _SHARE_OF_FREE:
            raise OutputError(
                f"{store.url}: {format_bytes(wanted)} would have to be copied to {directory.parent}, which has "
                f"{format_bytes(free)}: narrow it with --since, --until and --node, or set TMPDIR"
            )
        for run_id in found.runs:
            # A run whose manifest is gone is told as everywhere.
            path = session_path(run_id)
            try:
                store.copy(path, directory / path)
            except UsageError:
                (directory / path).unlink(missing_ok=True)
        copies = [(file.path, directory / _closed_path(file.path)) for file in files]
        for _done in store.of_each(lambda copy: store.copy(*copy), copies):
            pass
        for compaction in found.compactions:
            extract(found, compaction, tables, directory)
    except OSError as error:
        shutil.rmtree(directory, ignore_errors=True)
        raise OutputError(f"{directory}: {error.strerror or error}") from error
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return directory


def _closed_path(path: str) -> str:
    """Where a file of an object store would be in an output directory, which has no hours."""
    table, day, _hour, identifier, name = path.split("/")
    return f"{table}/{day}/{identifier}/{name}"
