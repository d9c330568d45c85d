# SPDX-License-Identifier: Apache-2.0
"""Who had less than its share of the CPUs because of whom.

Tasks that share a CPU wait for each other, and a fair scheduler lets both wait: that somebody waited says nothing yet.
Held back is who waited behind somebody that had more CPU time for its weight meanwhile. Who had as much or more itself
wanted more than its share, and waited for that.
"""

from typing import Final

import polars as pl

from tracer.analysis.waits.reading import Waits
from tracer.analysis.waits.weights import Weights

# Of what a holder had for its weight: in a minute, those that want as much do not have just as much.
_AS_GOOD_AS_EQUAL: Final = 0.8


def holders(waits: Waits, weights: Weights) -> pl.DataFrame:
    """By victim and holder `wait_time_ns`, and of it `held_back_ns`: judged minute by minute."""
    both = waits.pairs.select("victim", "holder").unique()
    entitled = [weights.of_both(victim, holder) for victim, holder in both.iter_rows()]
    both = both.with_columns(
        victim_weight=pl.Series([one for one, _other in entitled], dtype=pl.Float64),
        holder_weight=pl.Series([other for _one, other in entitled], dtype=pl.Float64),
    )
    had = pl.col("victim_use") / pl.col("victim_weight")
    is_held_back = had < _AS_GOOD_AS_EQUAL * pl.col("holder_use") / pl.col("holder_weight")
    held_back = pl.when(is_held_back).then("wait_time_ns").otherwise(0)
    return (
        waits.pairs.filter(pl.col("wait_time_ns") > 0)
        .join(both, on=["victim", "holder"])
        .group_by("victim", "holder")
        .agg(pl.sum("wait_time_ns"), held_back_ns=held_back.sum())
    )
