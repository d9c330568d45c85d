# SPDX-License-Identifier: Apache-2.0
"""How the periods of many nodes lie in an object store once they are put together, and what says so.

    <prefix>/compacted/<table>/dt=YYYY-MM-DD/hour=HH/<table>-<UTC hour>-<sources8>-<sequence>.parquet
    <prefix>/compactions/dt=YYYY-MM-DD/hour=HH.json

Files have the columns of their table, and `identifier` and `run_id`, which are in paths and footers else; beside them
are sums of the hour (`cgroup_sums`, `pair_sums`). The last is
the compaction's manifest, written after all that it names: only those files are there, and periods that are among its
sources count there and nowhere else.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
import pyarrow as pa

from tracer.store.fields import STRING
from tracer.store.hours import hour_text, parse_hour
from tracer.store.manifest import Count
from tracer.store.schemas import Table

VERSION: Final = 1
COMPACTIONS: Final = "compactions"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FILE: Final = re.compile(
    r"compacted/(?P<table>[a-z_]+)/(?P<partition>dt=[0-9]{4}-[0-9]{2}-[0-9]{2}/hour=[0-9]{2})/"
    r"(?P=table)-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}-[0-9]{6}\.parquet"
)


class CompactedFile(msgspec.Struct, frozen=True, kw_only=True):
    """`path` is below the prefix; the rest is as for the file of a period."""

    path: str
    table: str
    rows: Count
    bytes: Count
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    first_time_ns: Count
    last_time_ns: Count


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A period that is in it: of which node and run, and what its processor was, if that was known."""

    path: str
    node_name: str
    identifier: str
    run_id: UUID
    cpu_model: str | None
    lost: dict[str, Count] = {}


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """What there is of an hour (`hour`, its start, ISO 8601) of all nodes together."""

    version: int = VERSION
    hour: str
    sources: list[Source]
    files: list[CompactedFile]


def compacted_schema(table: Table) -> pa.Schema:
    """The columns of a compacted file."""
    return table.schema.append(pa.field("identifier", STRING)).append(pa.field("run_id", STRING))


def hour_start(hour: int) -> datetime:
    """When an hour since the epoch begins."""
    return _EPOCH + timedelta(hours=hour)


def compactions_of_day(hour: int) -> str:
    """Where the manifests of that hour's day are; hours are counted since the epoch."""
    return f"{COMPACTIONS}/{_EPOCH + timedelta(hours=hour):dt=%Y-%m-%d}"


def compaction_path(hour: int) -> str:
    """Of a compaction's manifest."""
    return f"{compactions_of_day(hour)}/{_EPOCH + timedelta(hours=hour):hour=%H}.json"


def compacted_directory(table: str, hour: int) -> str:
    """Where the files of a table and hour are."""
    return f"compacted/{table}/{_EPOCH + timedelta(hours=hour):dt=%Y-%m-%d/hour=%H}"


def compacted_path(table: str, hour: int, sources: str, sequence: int) -> str:
    """Of a file; `sources` are 8 hexadecimal digits that tell what it was made of."""
    name = f"{table}-{_EPOCH + timedelta(hours=hour):%Y%m%dT%H%M%SZ}-{sources}-{sequence:06}.parquet"
    return f"{compacted_directory(table, hour)}/{name}"


def decode_compaction(content: bytes, hour: int) -> Compaction:
    """Checked strictly: of that hour, as are its files. Raises ValueError."""
    try:
        compaction = msgspec.json.decode(content, type=Compaction)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if compaction.version != VERSION:
        raise ValueError(f"has version {compaction.version}; this tracer reads {VERSION}")
    if parse_hour(compaction.hour) != hour:
        raise ValueError(f"is of {compaction.hour}, not of {hour_text(hour)}")
    for file in compaction.files:
        match = _FILE.fullmatch(file.path)
        if (
            match is None
            or match["table"] != file.table
            or not compacted_directory(file.table, hour).endswith(match["partition"])
        ):
            raise ValueError(f"names {file.path[:200]!r}, which is no file of {compaction.hour}")
    return compaction
