# SPDX-License-Identifier: Apache-2.0
"""Files of schema version 1, read as those of today.

They had unsigned integers, times in nanoseconds and strings as dictionaries, which Polars takes for categories.
"""

import polars as pl
import pyarrow as pa


def can_be_read_as(found: pa.DataType, today: pa.DataType) -> bool:
    """Whether a column of the type `found` in a file is one of `today`, as it is or as version 1 wrote it."""
    if found == today:
        return True
    if pa.types.is_integer(today):
        return bool(pa.types.is_unsigned_integer(found) and found.bit_width <= today.bit_width)
    if pa.types.is_string(today):
        return bool(found == pa.dictionary(pa.int32(), today))
    if pa.types.is_timestamp(today):
        return bool(found == pa.timestamp("ns", today.tz))
    if pa.types.is_map(today) and pa.types.is_map(found):
        return bool(found.key_type == today.key_type and can_be_read_as(found.item_type, today.item_type))
    return False


def as_today(name: str, today: pl.DataType) -> pl.Expr:
    """A column of version 1 as one of the type `today`: times are rounded down, what does not fit is null."""
    column = pl.col(name)
    if isinstance(today, pl.Datetime):
        return column.dt.cast_time_unit("us")
    if name == "cgroup_id":
        return column.reinterpret(signed=True)
    return column.cast(today, strict=False)
