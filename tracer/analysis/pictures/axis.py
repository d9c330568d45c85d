# SPDX-License-Identifier: Apache-2.0
"""The time axis that the pictures of a recording share."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np
import polars as pl


@dataclass(frozen=True)
class TimeAxis:
    """`buckets` equal stretches from `start_ns` (UTC ns since the epoch) on, each of `steps_each` steps.

    A step is the time between two rows of a container, such as a window. `zone` is what times are shown in.
    """

    start_ns: int
    step_ns: int
    steps_each: int
    buckets: int
    zone: tzinfo = UTC

    @classmethod
    def over(cls, start_ns: int, end_ns: int, *, step_ns: int, at_most: int, zone: tzinfo = UTC) -> "TimeAxis":
        """From start to end in at most so many buckets."""
        steps = max(1, -(-(end_ns - start_ns) // step_ns))
        steps_each = -(-steps // at_most)
        return cls(start_ns, step_ns, steps_each, -(-steps // steps_each), zone)

    @property
    def bucket_ns(self) -> int:
        """The length of a bucket."""
        return self.steps_each * self.step_ns

    @property
    def end_ns(self) -> int:
        """The end of the last bucket."""
        return self.start_ns + self.buckets * self.bucket_ns

    def bucket_of(self, time: pl.Expr) -> pl.Expr:
        """The number of the bucket in which `time` (a datetime) lies."""
        return (time.dt.epoch("ns") - self.start_ns) // self.bucket_ns

    def is_within(self, time: pl.Expr, first: int, last: int) -> pl.Expr:
        """Whether `time` lies in one of the buckets from `first` to before `last`."""
        start, end = (
            pl.lit(self.start_ns + bucket * self.bucket_ns).cast(pl.Datetime("ns", "UTC")) for bucket in (first, last)
        )
        return time.is_between(start, end, closed="left")

    def edges(self) -> "np.ndarray[tuple[int], np.dtype[np.datetime64]]":
        """When each bucket begins, and at last when the last one ends, as datetime64[ns]."""
        return (self.start_ns + np.arange(self.buckets + 1) * self.bucket_ns).astype("datetime64[ns]")


def utc_ns(moment: datetime) -> int:
    """`moment`, which knows its time zone, as ns since the epoch."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
