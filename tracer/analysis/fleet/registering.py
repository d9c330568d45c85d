# SPDX-License-Identifier: Apache-2.0
"""Compacted files become those of tables in an Iceberg catalogue, as they are: nothing is copied.

Which files a table has is the catalogue's to know: those are left alone, so that what a killed call did not come to is
done by the next one of the same hours.
"""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from typing import Any, Final

import pyarrow as pa

from tracer.analysis.objects.store import ObjectStore
from tracer.errors import OutputError, UsageError
from tracer.printable import printable
from tracer.store.compactions import Compaction, compacted_schema
from tracer.store.schemas import TABLES

NAMESPACE: Final = "tracer"

_LONGEST_REASON: Final = 300


class Registrar:
    """Tables `<namespace>.<table>` of a catalogue that PyIceberg's configuration names; one registrar at a time."""

    def __init__(self, name: str) -> None:
        """`name`: CATALOG, or CATALOG.NAMESPACE. Raises UsageError."""
        if find_spec("pyiceberg") is None:
            raise UsageError("--register needs the package pyiceberg: pip install 'tracer[iceberg]'")
        from pyiceberg.catalog import load_catalog

        self._catalog_name, _dot, namespace = name.partition(".")
        self._namespace = namespace or NAMESPACE
        if not self._catalog_name:
            raise UsageError("--register must be CATALOG or CATALOG.NAMESPACE, as in PyIceberg's configuration")
        self._tables: dict[str, Any] = {}
        self._known: dict[str, set[str]] = {}
        with self._told(UsageError):
            self._catalog = load_catalog(self._catalog_name)
            self._catalog.create_namespace_if_not_exists(self._namespace)

    def register(self, store: ObjectStore, compaction: Compaction) -> int:
        """The files of an hour; returns how many the catalogue did not have. Raises OutputError."""
        by_table: dict[str, list[str]] = {}
        for file in compaction.files:
            if file.table in TABLES:
                by_table.setdefault(file.table, []).append(store.location(file.path))
        with self._told(OutputError):
            return sum(self._add(name, locations) for name, locations in by_table.items())

    def _add(self, name: str, locations: list[str]) -> int:
        if name not in self._tables:
            # A column that is required could never be missing in files of other versions.
            schema = pa.schema([field.with_nullable(True) for field in compacted_schema(TABLES[name])])
            table = self._catalog.create_table_if_not_exists(f"{self._namespace}.{name}", schema=schema)
            # One that an older version of tracer made has fewer columns.
            with table.update_schema() as update:
                update.union_by_name(schema)
            self._tables[name] = table
            self._known[name] = set(table.inspect.data_files()["file_path"].to_pylist())
        known = self._known[name]
        if missing := [location for location in locations if location not in known]:
            # Of these none is in the table: that was looked up.
            self._tables[name].add_files(missing, check_duplicate_files=False)
            known.update(missing)
        return len(missing)

    @contextmanager
    def _told(self, as_error: type[UsageError] | type[OutputError]) -> Iterator[None]:
        try:
            # PyIceberg prints what does not fit, too.
            with redirect_stdout(StringIO()):
                yield
        # Each kind of catalogue raises what its own library does.
        except Exception as error:
            reason = printable(" ".join(str(error).split()).encode("utf-8", "replace"))[:_LONGEST_REASON]
            raise as_error(f"--register {self._catalog_name}: {reason or type(error).__name__}") from error
