# SPDX-License-Identifier: Apache-2.0
"""The sums of `tracer fleet report` and of `tracer report` are the same on each engine."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from fleet_examples import write_fleet
from object_layout import lay_out_objects

from tracer.analysis.engines import ENGINES, get_engine
from tracer.analysis.fleet.compacting import compact
from tracer.analysis.fleet.merging_on_spark import merge_on_spark
from tracer.analysis.fleet.report import fleet_report
from tracer.analysis.fleet.sources import open_source
from tracer.analysis.objects.finding import find_periods
from tracer.analysis.objects.store import ObjectStore
from tracer.analysis.recording_names import open_named
from tracer.analysis.report import report
from tracer.errors import UsageError
from tracer.naming import Selector

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> str:
    # What looks like a pattern is a part of a path.
    output: Path = tmp_path_factory.mktemp("fleet") / "a [b] {c}*"
    return str(write_fleet(output, node_1={"waits_ms": 30}, node_3={"cpi": 1.5}, node_5={"model": None}))


@pytest.mark.usefixtures("spark")
def test_each_engine_says_the_same_of_a_fleet(fleet: str) -> None:
    reports = []
    for name in ENGINES:
        source = open_source([fleet], since="+0.3s", until="+2.2s")
        found = fleet_report(source, get_engine(name), top=100, containers=Selector(()))
        assert found.engine == name
        reports.append(msgspec.structs.replace(found, engine=""))
    assert reports[0].lost_to
    assert reports[0].outliers
    assert reports == [reports[0]] * len(ENGINES)


@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("where", ["here", "on spark"])
def test_each_engine_says_the_same_of_what_was_put_together(fleet: str, tmp_path: Path, where: str) -> None:
    store = lay_out_objects(Path(fleet), tmp_path / "store")
    to = ObjectStore(f"file://{tmp_path / 'to'}", make=True)
    found = find_periods(ObjectStore(f"file://{store}"), compacted="no")
    # On Spark, parts of some nodes each.
    size, merge = (2**28, None) if where == "here" else (2**13, merge_on_spark())
    (hour,) = compact(found, to, size=size, delete=False, merge=merge)
    assert (hour.files > 2) == (where == "on spark")
    reports = [
        fleet_report(open_source([to.url]), get_engine(name), top=100, containers=Selector(())) for name in ENGINES
    ]
    assert reports[0].lost_to
    assert {msgspec.json.encode(msgspec.structs.replace(found, engine="")) for found in reports} == {
        msgspec.json.encode(msgspec.structs.replace(reports[0], engine=""))
    }


@pytest.mark.usefixtures("spark")
def test_what_a_worker_cannot_read_is_told_in_a_line(fleet: str, tmp_path: Path) -> None:
    store = lay_out_objects(Path(fleet), tmp_path / "store")
    broken = next(store.glob("windows/*/*/*/*.parquet"))
    broken.write_bytes(broken.read_bytes()[:-1] + b"X")
    found = find_periods(ObjectStore(f"file://{store}"), compacted="no")
    to = ObjectStore(f"file://{tmp_path / 'to'}", make=True)
    with pytest.raises(UsageError, match=r"is not what its manifest says: other bytes$"):
        list(compact(found, to, size=2**13, delete=False, merge=merge_on_spark()))
    assert not list(tmp_path.glob("to/compactions/*/*"))


def test_each_engine_says_the_same_of_a_node(fleet: str, spark: "SparkSession") -> None:
    reports = [
        report(open_named([fleet], nodes=["node-1", "node-2"], engine=None if name == "polars" else get_engine(name)))
        for name in ENGINES
    ]
    assert {one.container.name for one in reports[0].time_spent} >= {"jobs/batch-1/etl"}
    assert reports[0].costs
    assert reports == [reports[0]] * len(ENGINES)
    spark.catalog.clearCache()
