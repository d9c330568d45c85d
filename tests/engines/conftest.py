# SPDX-License-Identifier: Apache-2.0
"""One directory for all examples, which read `results` in the directory they are in, and one Spark.

A Java process keeps the directory that it was started in, so that it is always the same one.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where examples are run."""
    return tmp_path_factory.mktemp("desk")


@pytest.fixture
def lay_out(desk: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Makes an output of the tracer the `results` in the current directory."""
    monkeypatch.chdir(desk)
    results = desk / "results"

    def put(output: Path) -> None:
        results.unlink(missing_ok=True)
        results.symlink_to(output, target_is_directory=True)

    yield put
    results.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def spark(desk: Path) -> Iterator["SparkSession"]:
    """A Spark on this machine, the only one: what examples get by `getOrCreate`."""
    before = Path.cwd()
    os.chdir(desk)
    # Spark's own doings, among them what it thinks of newer versions of pandas, which it is not used with.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pyspark.sql import SparkSession

        options = {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "1g",
            "spark.sql.session.timeZone": "UTC",
            "spark.sql.shuffle.partitions": "1",
            "spark.sql.warehouse.dir": str(desk / "spark"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        session = SparkSession.builder.master("local[1]").config(map=options).getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    os.chdir(before)
    yield session
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait()
