# SPDX-License-Identifier: Apache-2.0
"""What an object store holds of many nodes, and where.

    <prefix>/<table>/dt=YYYY-MM-DD/hour=HH/identifier=<partition value>/<table>-<UTC start>-<run8>-<sequence>.parquet
    <prefix>/runs/<run_id>/session.json
    <prefix>/periods/dt=YYYY-MM-DD/hour=HH/<partition value>-<run8>.json

A period is an hour of a node's run. Its manifest is written last, and only files that one names count.
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec

PERIOD_VERSION: Final = 1
PERIODS: Final = "periods"

_LARGEST: Final = 2**63 - 1
_FILE: Final = re.compile(
    r"(?P<table>[a-z_]+)/dt=[0-9]{4}-[0-9]{2}-[0-9]{2}/hour=[0-9]{2}/identifier=[A-Za-z0-9_.%-]+/"
    r"(?P=table)-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}-[0-9]{6,19}\.parquet"
)

Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST)]


class PeriodFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a period. `path` is relative to the prefix; times are of its first and last row, ns since the epoch."""

    path: str
    table: str
    rows: Count
    bytes: Count
    sha256: str
    first_time_ns: Count
    last_time_ns: Count


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What is there of an hour of a node's run.

    `identifier` is as the user gave it, `hour` the hour's begin. `complete`: the hour is over for this run. `lost` are
    rows that were removed before they were uploaded, by table.
    """

    version: int = PERIOD_VERSION
    node_name: str
    identifier: str
    run_id: UUID
    hour: datetime
    files: list[PeriodFile]
    complete: bool
    lost: dict[str, Count] = {}


def hour_path(hour: datetime) -> str:
    """`dt=2026-11-22/hour=14`."""
    return f"{hour.astimezone(UTC):dt=%Y-%m-%d/hour=%H}"


def period_path(hour: datetime, partition: str, run_id: UUID) -> str:
    """Where the manifest of a period is; `partition` is from `tracer.store.layout.partition_value`."""
    return f"{PERIODS}/{hour_path(hour)}/{partition}-{run_id.hex[:8]}.json"


def object_path(closed_file: str, hour: datetime) -> str:
    """Where the closed file of this path in an output directory is, of that hour."""
    table, _day, identifier, name = closed_file.split("/")
    return f"{table}/{hour_path(hour)}/{identifier}/{name}"


def closed_path(path: str) -> str:
    """The reverse: where a file of an object store would be in an output directory."""
    table, day, _hour, identifier, name = path.split("/")
    return f"{table}/{day}/{identifier}/{name}"


def decode_period(content: bytes) -> Period:
    """Raises ValueError for what is no manifest of a period, or names files that could not be of one."""
    period = msgspec.json.decode(content, type=Period)
    if period.version > PERIOD_VERSION:
        raise ValueError(f"it has version {period.version}; this tracer reads {PERIOD_VERSION}")
    for file in period.files:
        match = _FILE.fullmatch(file.path)
        if match is None or match["table"] != file.table:
            raise ValueError(f"it names {file.path!r}, which is no file of {file.table}")
    return period
