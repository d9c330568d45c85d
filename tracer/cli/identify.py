# SPDX-License-Identifier: Apache-2.0
"""`tracer identify`: who a cgroup path is."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from tracer.containers.identity import identify as identify_path
from tracer.containers.identity import printable_path
from tracer.errors import UsageError


def identify(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH...", help="A cgroup path; `-` reads paths from stdin, one a line."),
    ],
) -> None:
    """Tell who a cgroup is from its path: container, pod, systemd unit, …, as JSON lines."""
    for argument in paths:
        for path in _read_lines() if argument == "-" else [argument]:
            print(_describe(path))


def _read_lines() -> Iterator[str]:
    """Paths on standard input, which may hold any bytes; empty lines are skipped."""
    if sys.stdin is None:
        raise UsageError("cannot read standard input: it is closed")
    try:
        for line in sys.stdin.buffer:
            if path := line.rstrip(b"\r\n"):
                yield os.fsdecode(path)
    except OSError as error:
        raise UsageError(f"cannot read standard input: {error.strerror}") from error


def _describe(path: str) -> str:
    """One line of JSON, in ASCII so that it can be printed under any locale."""
    printable = printable_path(path)
    identity = identify_path(printable)
    return json.dumps(
        {
            "path": printable,
            "kind": identity.kind,
            "runtime": identity.runtime,
            "container_id": identity.container_id,
            "container_name": identity.container_name,
            "pod_uid": identity.pod_uid,
            "qos_class": identity.qos_class,
            "subpath": identity.subpath,
        }
    )
