# SPDX-License-Identifier: Apache-2.0
"""How the results of many nodes lie in an object store, and what says what is there of one hour of one node's run.

    <prefix>/<table>/dt=YYYY-MM-DD/hour=HH/identifier=<identifier>/<table>-<UTC start>-<run8>-<sequence>.parquet
    <prefix>/runs/<run_id>/session.json
    <prefix>/periods/dt=YYYY-MM-DD/hour=HH/<identifier>-<run8>.json

Rows lie in the hour (UTC) of their time. The last is the period's manifest, written after all that it names: only those
files are there. Of a known time, days and hours are known too, so that no listing is recursive.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec

from tracer.store.hours import hour_of, parse_hour
from tracer.store.manifest import Count

VERSION: Final = 1
LONGEST_PERIOD: Final = 2**20

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MERGED_FILE: Final = re.compile(
    r"(?P<table>[a-z_]+)/dt=(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})/hour=(?P<hour>[0-9]{2})/identifier=[^/]+/"
    r"(?P=table)-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}-[0-9]{6,19}\.parquet"
)


class PeriodFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a period. `path` is below the prefix. `sources` are the sequence numbers of the closed files, of the
    same run and table, of which it, and those before it of that table, have all rows of the hour."""

    path: str
    table: str
    rows: Count
    bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    first_time_ns: Count
    last_time_ns: Count
    sources: Annotated[str, msgspec.Meta(max_length=LONGEST_PERIOD)] = ""


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """What of one hour (`hour`, its start, ISO 8601) of one run is in the object store.

    complete: the hour, or the run, is over, and all that there is of it is here. lost: rows that had to be removed
    before they were uploaded, by table.
    """

    version: int = VERSION
    node_name: str
    identifier: str
    run_id: UUID
    hour: str
    files: list[PeriodFile]
    complete: bool
    lost: dict[str, Count] = {}


def periods_of_day(hour: int) -> str:
    """Where the hours of that hour's day are: a listing of it with a delimiter has them as `hour=HH`."""
    return f"periods/{_EPOCH + timedelta(hours=hour):dt=%Y-%m-%d}"


def periods_of_hour(hour: int) -> str:
    """Where the manifests of all nodes of that hour are."""
    return f"periods/{_partition(hour)}"


def period_path(hour: int, partition: str, run_id: UUID) -> str:
    """Of a period's manifest. `partition`: from `tracer.store.layout.partition_value`."""
    return f"{periods_of_hour(hour)}/{partition}-{run_id.hex[:8]}.json"


def session_path(run_id: UUID) -> str:
    """Of a run's manifest."""
    return f"runs/{run_id}/session.json"


def merged_path(table: str, partition: str, start_us: int, run_id: UUID, sequence: int) -> str:
    """Of a file of a table's rows of one hour. start_us: of its first row; sequence: of those of the hour."""
    start = _EPOCH + timedelta(microseconds=start_us)
    name = f"{table}-{start:%Y%m%dT%H%M%SZ}-{run_id.hex[:8]}-{sequence:06}.parquet"
    return f"{table}/{_partition(hour_of(start_us))}/identifier={partition}/{name}"


def encode_period(period: Period) -> bytes:
    """As JSON."""
    return msgspec.json.encode(period) + b"\n"


def decode_period(content: bytes) -> Period:
    """Checked strictly: each file lies where the layout has those of its table and hour. Raises ValueError."""
    try:
        period = msgspec.json.decode(content, type=Period)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if period.version != VERSION:
        raise ValueError(f"has version {period.version}; this tracer reads {VERSION}")
    partition = _partition(parse_hour(period.hour))
    for file in period.files:
        match = _MERGED_FILE.fullmatch(file.path)
        if match is None or match["table"] != file.table or f"dt={match['day']}/hour={match['hour']}" != partition:
            raise ValueError(f"names {file.path[:200]!r}, which is no file of {period.hour}")
    return period


def _partition(hour: int) -> str:
    return f"{_EPOCH + timedelta(hours=hour):dt=%Y-%m-%d/hour=%H}"
