# SPDX-License-Identifier: Apache-2.0
"""What takes labelled rows, and the list of those that a run has."""

from typing import Protocol

import pyarrow as pa

from tracer.store.schemas import Table


class Sink(Protocol):
    """Takes labelled rows of any table, from any thread, and never holds that up: what it cannot take, it counts."""

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows with the columns of `table`."""


class Sinks:
    """Hands the same rows to each of several sinks; a run is not another one for having more of them."""

    def __init__(self, *sinks: Sink) -> None:
        self._sinks = sinks

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows with the columns of `table`; none are no news."""
        if rows.num_rows:
            for sink in self._sinks:
                sink.put(table, rows)
