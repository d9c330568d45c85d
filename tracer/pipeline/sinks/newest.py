# SPDX-License-Identifier: Apache-2.0
"""The rows that came last, for whoever looks at a run while it goes on."""

import pyarrow as pa

from tracer.store.schemas import WINDOWS, Table


class NewestWindows:
    """Keeps the rows of `windows` that came last: some half a second."""

    def __init__(self) -> None:
        self.rows: pa.Table | None = None

    def put(self, table: Table, rows: pa.Table) -> None:
        """Takes rows of any table."""
        if table is WINDOWS:
            self.rows = rows
