# SPDX-License-Identifier: Apache-2.0
"""An output directory as an object store on this machine would have it: by hour, named by periods' manifests."""

import hashlib
import shutil
from collections import defaultdict
from pathlib import Path
from uuid import UUID

import pyarrow.parquet as pq

from tracer.store.hours import hour_of, hour_text, parse_hour
from tracer.store.layout import parse_closed_file
from tracer.store.periods import Period, PeriodFile, encode_period, merged_path, period_path
from tracer.store.schemas import TABLES


def lay_out_objects(output: Path, store: Path) -> Path:
    """Copies what closed files of `output` there are to `store`; each must be of one hour."""
    periods: dict[tuple[str, int, str], list[PeriodFile]] = defaultdict(list)
    nodes = {}
    for path in sorted(output.glob("*/dt=*/identifier=*/*.parquet")):
        relative = str(path.relative_to(output))
        name = parse_closed_file(relative)
        assert name is not None
        metadata = pq.read_metadata(path)
        times = pq.read_table(path, columns=[TABLES[name.table].time_column])[0].cast("int64").to_pylist()
        (hour,) = {hour_of(moment) for moment in times}
        partition = relative.split("/")[2].removeprefix("identifier=")
        run_id = UUID(metadata.metadata[b"tracer.run_id"].decode())
        target = store / merged_path(name.table, partition, min(times), run_id, name.sequence)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        nodes[partition, name.run] = (metadata.metadata[b"tracer.node_name"].decode(), run_id)
        periods[partition, hour, name.run].append(
            PeriodFile(
                path=str(target.relative_to(store)),
                table=name.table,
                rows=metadata.num_rows,
                bytes=path.stat().st_size,
                sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                first_time_ns=min(times) * 1_000,
                last_time_ns=max(times) * 1_000,
            )
        )
    for (partition, hour, run), files in periods.items():
        node_name, run_id = nodes[partition, run]
        period = Period(
            node_name=node_name, identifier=partition, run_id=run_id, hour=hour_text(hour), files=files, complete=True
        )
        write_period(store, partition, period)
    if (output / "runs").is_dir():
        shutil.copytree(output / "runs", store / "runs", dirs_exist_ok=True)
    return store


def write_period(store: Path, partition: str, period: Period) -> Path:
    path = store / period_path(parse_hour(period.hour), partition, period.run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_period(period))
    return path
