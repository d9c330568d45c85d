# SPDX-License-Identifier: Apache-2.0
"""Recordings of schema version 1: what that version itself wrote, and today's files as it would have written them.

`data/version-1.tar.xz` was written by revision 59efd47, the last of version 1:

    kernel/     one second of `tracer run --ticks --io --processes 1s --regions --identifier 0042` in a guest
    simulated/  one second of the scenario cache-thrash
    made/       three rows of each table: the least, nulls, and the largest that its types can hold
"""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_ARCHIVE = Path(__file__).parent / "data" / "version-1.tar.xz"
_BITS = {
    **dict.fromkeys(("ticks", "active_ticks", "cpus", "cpu", "queue_depth_peak", "online_cpus"), 16),
    **dict.fromkeys(
        (
            "context_switches", "pid", "threads", "mappings", "processes", "l3_id", "unresolved_cgroups",
            "reader_passes_left_out", "llc_values_missing", "unread_cgroups", "process_reads", "processes_too_large",
            "processes_put_off", "files_closed",
        ),
        32,
    ),
}  # fmt: skip
_UNSIGNED = {16: pa.uint16(), 32: pa.uint32(), 64: pa.uint64()}


def unpack(directory: Path) -> Path:
    """What version 1 wrote, below `directory`."""
    with tarfile.open(_ARCHIVE) as archive:
        # Not every Python 3.11 has the argument without which later ones warn of `extractall`.
        for member in filter(tarfile.TarInfo.isfile, archive):
            content = archive.extractfile(member)
            assert content is not None
            path = directory / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read())
    return directory


def as_version_1(rows: pa.Table) -> pa.Table:
    """Rows of today with the types of version 1."""
    schema = pa.schema([field.with_type(_type(field)) for field in rows.schema])
    return rows.cast(schema)


def rewrite_as_version_1(output: Path, run_id: object) -> None:
    """Turns a run's files and manifest in `output` into those that version 1 would have written."""
    for path in output.glob(f"*/dt=*/identifier=*/*-{str(run_id)[:8]}-*.parquet"):
        rows = pq.ParquetFile(path).read()
        metadata = {**rows.schema.metadata, b"tracer.schema_version": b"1"}
        pq.write_table(as_version_1(rows).replace_schema_metadata(metadata), path, compression="zstd")
    manifest = output / "runs" / str(run_id) / "session.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema_version": 1}))


def _type(field: pa.Field) -> pa.DataType:
    if pa.types.is_string(field.type):
        return pa.dictionary(pa.int32(), pa.string())
    if pa.types.is_integer(field.type):
        return _UNSIGNED[_BITS.get(field.name, 64)]
    if pa.types.is_timestamp(field.type):
        return pa.timestamp("ns", "UTC")
    if pa.types.is_map(field.type):
        return pa.map_(pa.string(), pa.uint64())
    return field.type
