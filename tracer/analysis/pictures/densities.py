# SPDX-License-Identifier: Apache-2.0
"""How a container fares while its neighbours are at their noisiest, and otherwise."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from tracer.analysis.pictures.cast import Cast
from tracer.analysis.pictures.courses import LEAST_CPUS
from tracer.analysis.recording import Recording

Values = np.ndarray[tuple[int], np.dtype[np.float64]]

NOISY_SHARE = 0.05
_POINTS = 200
_FEWEST_WINDOWS = 400


@dataclass(frozen=True)
class Densities:
    """The distribution of `measure` in the noisiest 5 % of a container's windows, and in the middle half.

    `measure` is its CPI by the LLC misses of its neighbours; without counters the CPUs it had, by those they had.
    `noisy` and `quiet` are probability densities at `values`.
    """

    measure: Literal["cpi", "cpus"]
    values: Values
    noisy: Values
    quiet: Values
    noisy_mean: float
    quiet_mean: float
    noisy_windows: int
    quiet_windows: int


def read_densities(recording: Recording, cast: Cast, *, shown: int) -> dict[int, Densities]:
    """Of the first `shown` containers of the cast, by number, those with enough windows in which they really ran."""
    containers = cast.containers[:shown]
    ids = [cgroup_id for container in containers for cgroup_id in container.cgroup_ids]
    cpus = pl.col("cpu_time_ns") / 1e9 / cast.facts.seconds(pl.col("ticks"))
    rows = cast.rows(recording, "windows").filter(
        pl.col("cgroup_id").is_in(ids), pl.col("active_ticks") > 0, cpus >= LEAST_CPUS
    )
    windows = recording.collect(
        rows.select(
            cast.number(shown).alias("number"),
            cpus.cast(pl.Float32).alias("cpus"),
            (pl.col("cycles") / pl.col("instructions")).cast(pl.Float32).alias("cpi"),
            (pl.col("neighbour_llc_misses") / pl.col("active_ticks")).cast(pl.Float32).alias("neighbours_misses"),
            (pl.col("neighbour_cpu_time_ns") / pl.col("active_ticks")).cast(pl.Float32).alias("neighbours_cpus"),
        )
    )
    found = ((number, _of_windows(own)) for (number,), own in windows.partition_by("number", as_dict=True).items())
    return {number: densities for number, densities in sorted(found) if densities is not None}


def _of_windows(windows: pl.DataFrame) -> Densities | None:
    counted = windows.filter(pl.col("cpi").is_finite(), pl.col("neighbours_misses").is_not_null())
    if counted.height >= _FEWEST_WINDOWS:
        return _densities("cpi", counted["cpi"].to_numpy(), counted["neighbours_misses"].to_numpy())
    if counted.is_empty() and windows.height >= _FEWEST_WINDOWS:
        return _densities("cpus", windows["cpus"].to_numpy(), windows["neighbours_cpus"].to_numpy())
    return None


def _densities(measure: Literal["cpi", "cpus"], values: Values, noise: Values) -> Densities:
    order = np.argsort(noise, kind="stable")
    count = len(order)
    noisy = values[order[count - round(count * NOISY_SHARE) :]]
    quiet = values[order[count // 4 : count - count // 4]]
    low, high = np.quantile(values, [0.001, 0.999])
    # Room for the tails that smoothing makes, and for values that are all the same.
    margin = max((high - low) * 0.1, abs(high) * 0.01, 1e-6)
    grid = np.linspace(max(0.0, low - margin), high + margin, _POINTS)
    return Densities(
        measure,
        grid,
        _density(noisy, grid),
        _density(quiet, grid),
        float(noisy.mean()),
        float(quiet.mean()),
        len(noisy),
        len(quiet),
    )


def _density(sample: Values, grid: Values) -> Values:
    """A Gaussian kernel density of `sample` at `grid`, of Silverman's bandwidth, by way of a histogram."""
    step = grid[1] - grid[0]
    spread = min(sample.std(), float(np.subtract(*np.quantile(sample, [0.75, 0.25]))) / 1.34 or np.inf)
    bandwidth = max(0.9 * spread * len(sample) ** -0.2, step)
    edges = np.append(grid - step / 2, grid[-1] + step / 2)
    histogram = np.histogram(sample.clip(edges[0], edges[-1]), edges)[0] / (len(sample) * step)
    offsets = np.arange(1 - _POINTS, _POINTS) * step
    kernel = np.exp(-0.5 * (offsets / bandwidth) ** 2)
    smooth: Values = np.convolve(histogram, kernel / kernel.sum())[_POINTS - 1 : 2 * _POINTS - 1]
    return smooth
