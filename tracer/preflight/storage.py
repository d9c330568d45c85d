# SPDX-License-Identifier: Apache-2.0
"""Checks of the output directory, where one was given."""

import os
from pathlib import Path

from tracer.preflight.checks import Finding
from tracer.preflight.probes import Probe, Trial
from tracer.store.output import prepare_output

_SCARCE_BYTES = 1 << 30
_NOT_GIVEN = Finding("skipped", "not checked: no --output given")


def judge_free_space(path: Path, free_bytes: int) -> Finding:
    """`free_bytes` at `path`, the directory where results would go or the nearest one above it."""
    found = f"{free_bytes / 2**30:.1f} GiB free at {path}"
    if free_bytes < _SCARCE_BYTES:
        return Finding("warning", found, "free some space, or bound the results: --keep 500MiB")
    return Finding("ok", found)


def _output(trial: Trial) -> Finding:
    if trial.output is None:
        return _NOT_GIVEN
    prepared = prepare_output(trial.output)
    prepared.remove_if_empty()
    return Finding("ok", f"{prepared.path} can be written")


def _disk_free(trial: Trial) -> Finding:
    if trial.output is None:
        return _NOT_GIVEN
    path = trial.output.absolute()
    place = next((directory for directory in (path, *path.parents) if directory.is_dir()), Path("/"))
    space = os.statvfs(place)
    return judge_free_space(place, space.f_bavail * space.f_frsize)


STORAGE_PROBES = (
    Probe("output", _output, "choose another --output", required=True),
    Probe("disk-free", _disk_free, "choose another --output"),
)
