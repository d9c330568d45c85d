# SPDX-License-Identifier: Apache-2.0
"""An engine by its name."""

from importlib.util import find_spec
from typing import Final

from tracer.analysis.engines.engine import Engine
from tracer.errors import UsageError
from tracer.suggestions import not_among

ENGINES: Final = ("polars", "duckdb", "spark")
_PACKAGES: Final = {"duckdb": ("duckdb", "fsspec"), "spark": ("pyspark",)}


def get_engine(name: str) -> Engine:
    """Raises UsageError for what is none, or not installed."""
    require_packages(name, f"--engine {name}")
    # Each maps what it needs, and no more: Spark is a Java process.
    if name == "polars":
        from tracer.analysis.engines.on_polars import OnPolars

        return OnPolars()
    if name == "duckdb":
        from tracer.analysis.engines.on_duckdb import OnDuckDB

        return OnDuckDB()
    if name == "spark":
        from tracer.analysis.engines.on_spark import OnSpark

        return OnSpark()
    raise UsageError(f"--engine: {not_among('engine', name, ENGINES)}")


def require_packages(name: str, option: str) -> None:
    """Raises UsageError, which names the option, if a package of that engine's is not installed."""
    for package in _PACKAGES.get(name, ()):
        if find_spec(package) is None:
            raise UsageError(f"{option} needs the package {package}: pip install 'tracer[{name}]'")
