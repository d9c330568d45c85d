# SPDX-License-Identifier: Apache-2.0
"""Where the heavy sums of a question are made: on Polars, DuckDB or Spark, from one text in Narwhals.

A question filters, joins, groups and adds up with `narwhals` on what an engine scans; what is left is small, and goes
on in Polars on this machine.
"""

from tracer.analysis.engines.choosing import ENGINES, get_engine
from tracer.analysis.engines.engine import TIME_US, Engine, Files

__all__ = ["ENGINES", "TIME_US", "Engine", "Files", "get_engine"]
