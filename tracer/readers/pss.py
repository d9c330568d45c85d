# SPDX-License-Identifier: Apache-2.0
"""Sums of the processes' memory by cgroup, handed from the thread that reads them to the one that reads cgroups."""

import threading

import polars as pl

PSS_SCHEMA = pl.Schema(
    {"cgroup_id": pl.UInt64, "processes": pl.UInt32, "pss_bytes": pl.UInt64, "pss_coverage": pl.Float32}
)


class PssSums:
    """Holds the newest sums (of PSS_SCHEMA) until they are taken, so that each is in one row and never repeated."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: pl.DataFrame | None = None

    def put(self, sums: pl.DataFrame) -> None:
        """Replaces what nobody has taken."""
        with self._lock:
            self._sums = sums

    def take(self) -> pl.DataFrame | None:
        """The newest sums; None if they were taken already."""
        with self._lock:
            sums, self._sums = self._sums, None
            return sums
