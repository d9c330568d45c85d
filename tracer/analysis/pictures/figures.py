# SPDX-License-Identifier: Apache-2.0
"""The pictures as files: PNG and SVG, by Matplotlib."""

import textwrap
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tracer.analysis.pictures.cast import shown_names, shown_text
from tracer.analysis.pictures.colours import COLOURED, LIGHT, LIGHT_OTHER
from tracer.analysis.pictures.courses import Courses, Grid
from tracer.analysis.pictures.densities import Densities
from tracer.analysis.pictures.drawing import (
    FAINT,
    INK,
    LONGEST_TEXT,
    MISSING,
    add_legend,
    draw_steps,
    fill_between,
    hatch,
    new_figure,
    say_why_empty,
    set_time_axis,
    set_units,
)
from tracer.analysis.pictures.matrix import Matrix
from tracer.analysis.pictures.resources import Resources
from tracer.analysis.pictures.ticks import PERCENT, PLAIN, BinaryLocator, binary_formatter
from tracer.analysis.pictures.time_spent import HOLDERS, LAYERS, SpentCourses
from tracer.store.files import replacing

# More buckets than these no picture of this size can show.
WIDTH_BUCKETS: Final = 1000

_PALE = "#e4e6e9"
# Of LAYERS: the first container's own colour; what has no container's is yellow, brown or without colour.
_LAYER_COLOURS = (LIGHT[0], FAINT, LIGHT[0], *LIGHT, LIGHT_OTHER, "#F0E442", "#A6761D", _PALE)
# Of all the time: with less, a layer is not seen.
_TRIFLE = 0.001
_MOST_CELLS = 10
# Of cores, tasks and shares: no axis is stretched so far that less fills it.
_LEAST_HIGH = 0.01
_STYLE: Final[dict[Any, Any]] = {
    # A name may have dollars in it.
    "text.parse_math": False,
    # Text stays text, in the viewer's fonts.
    "svg.fonttype": "none",
    # The same data make the same file.
    "svg.hashsalt": "tracer",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "legend.frameon": False,
    "figure.dpi": 150,
}
_HEAT = "Blues"
_CPI = "Cycles per instruction"
_TRAFFIC = "LLC misses × line size"
_CPUS = "CPU time, in cores"
_WAITING = "Waiting for a CPU, in tasks"
# Of the shares of resources.
_DASHES = ("-", "--", ":", "-.")


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Writes the figure that `draw` makes; the file's ending says as what. Raises OutputError."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A letter that no font at hand has is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = draw()
        form = path.suffix.lower().removeprefix(".")
        with replacing(path) as file:
            figure.savefig(file, format=form, metadata={"Date": None} if form == "svg" else None)


def timeline(
    courses: Courses, spent: SpentCourses | None, names: Sequence[str], title: str, note: str | None
) -> Figure:
    """Traffic (CPU time if none was counted) stacked by container, and below it how the first one fared.

    That is its CPI; without, where its time went, if that is known.
    """
    rate = courses.traffic if courses.counted else courses.cpus
    has_cpi = not np.isnan(courses.cpi[0]).all()
    has_lower = has_cpi or spent is not None
    figure = new_figure(title, note, 5.8 if has_lower else 3.8)
    panels = figure.subplots(
        2 if has_lower else 1, sharex=True, squeeze=False, height_ratios=[3, 2] if has_lower else [1]
    )
    stack = panels[0, 0]
    hatch(stack, courses.axis, np.isnan(rate.total_peak))
    fill_between(
        stack, courses.axis, np.zeros(courses.axis.buckets), rate.total_peak, color=_PALE, label="all, highest window"
    )
    own = min(courses.shown, COLOURED)
    under = np.zeros(courses.axis.buckets)
    for number in range(own):
        fill_between(stack, courses.axis, under, under + rate.mean[number], color=LIGHT[number], label=names[number])
        under = under + rate.mean[number]
    if len(names) > own:
        others = rate.mean[own:].sum(axis=0)
        fill_between(stack, courses.axis, under, under + others, color=LIGHT_OTHER, label="all others")
    highest = float(np.nanmax(rate.total_peak, initial=0))
    stack.set_ylim(0, 1.05 * (highest or 1 if courses.counted else max(highest, _LEAST_HIGH)))
    stack.set_title(_TRAFFIC if courses.counted else _CPUS)
    set_units(stack, "B/s" if courses.counted else None)
    add_legend(stack)
    lower = panels[-1, 0]
    if has_cpi:
        low, high = courses.cpi_min[0], courses.cpi_max[0]
        hatch(lower, courses.axis, np.isnan(courses.cpi[0]), label="hardly ran, or not counted")
        fill_between(lower, courses.axis, low, high, color=LIGHT[0], alpha=0.35, label="lowest to highest window")
        draw_steps(lower, courses.axis, courses.cpi[0], color=LIGHT[0], linewidth=1, label="mean")
        lower.set_title(f"{_CPI} of {names[0]}")
        set_units(lower)
        add_legend(lower)
    elif spent is not None:
        _layers(lower, spent, names)
    set_time_axis(panels[-1, 0], courses.axis)
    return figure


def heat_map(courses: Courses, names: Sequence[str], title: str, note: str | None) -> Figure:
    """The highest window of each container (row) in each bucket: CPU time, waiting, traffic and CPI, as measured."""
    names = names[: courses.shown]
    panels: list[tuple[str, Grid, str | None]] = [(_CPUS, courses.cpus.peak, None)]
    if courses.has_waits:
        panels.append((_WAITING, courses.waiting.peak, None))
    if courses.counted:
        panels.append((_TRAFFIC, courses.traffic.peak, "B/s"))
    if courses.has_cpi:
        panels.append((_CPI, courses.cpi_max, None))
    figure = new_figure(title, note, 0.9 + len(panels) * (0.9 + 0.17 * len(names)))
    has_missing = False
    for axes, (heading, grid, unit) in zip(
        figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0], panels, strict=True
    ):
        values = grid[: len(names)]
        has_missing |= bool(np.isnan(values).any())
        # Its differences count, and it is never near zero.
        scale = (
            Normalize() if heading == _CPI else PowerNorm(0.5, 0, max(float(np.nanmax(values, initial=0)), _LEAST_HIGH))
        )
        edges = courses.axis.edges()
        axes.patch.set(**MISSING)
        mesh = axes.pcolormesh(edges, np.arange(len(names) + 1), values, cmap=_HEAT, norm=scale, rasterized=True)
        axes.set_yticks(np.arange(len(names)) + 0.5, names)
        axes.invert_yaxis()
        axes.set_title(f"{heading} (highest window)")
        bar = figure.colorbar(
            mesh, ax=axes, pad=0.01, aspect=12, format=PLAIN if unit is None else binary_formatter(unit)
        )
        # Near zero, the scale has no room for many.
        bar.ax.yaxis.set_major_locator(BinaryLocator() if unit else MaxNLocator(4))
    set_time_axis(axes, courses.axis)
    if has_missing:
        text = "not recorded" if len(panels) == 1 or not courses.has_cpi else "not recorded, or hardly ran"
        figure.legend(handles=[Patch(**MISSING, label=text)], loc="outside upper right", fontsize=8)
    return figure


def densities(found: Densities, name: str, title: str, note: str | None) -> Figure:
    """The two distributions, with their means."""
    figure = new_figure(title, note, 3.6)
    axes = figure.subplots()
    for values, mean, count, colour, label in (
        (found.quiet, found.quiet_mean, found.quiet_windows, FAINT, "middle half"),
        (found.noisy, found.noisy_mean, found.noisy_windows, LIGHT[0], "noisiest 5 %"),
    ):
        axes.fill_between(found.values, values, color=colour, alpha=0.35, linewidth=0)
        axes.plot(found.values, values, color=colour, label=f"{label}: mean {mean:.3g}, {count:,} windows")
        axes.axvline(mean, color=colour, linestyle=":", linewidth=1)
    what = "Cycles per instruction" if found.measure == "cpi" else _CPUS
    axes.set_xlabel(f"{what}, of {name} in a window; dotted: the means")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_yticks([])
    axes.set_ylim(0)
    axes.legend(title="its windows by what its neighbours did", alignment="left")
    return figure


def matrices(found: Sequence[Matrix], title: str, unseen: Sequence[str]) -> Figure:
    """Who took how much from whom, victims by column; a panel for each kind of it.

    `unseen` is what to say of kinds that have none.
    """
    lines = [wrapped for text in unseen for wrapped in textwrap.wrap(shown_text(text, 2 * LONGEST_TEXT), LONGEST_TEXT)]
    if not found:
        figure = new_figure(title, None, 0.9 + 0.25 * len(lines))
        figure.text(0.02, 0.42, "\n".join(lines), va="center", linespacing=1.6)
        return figure
    found = [_cut(matrix) for matrix in found]
    # With room for the names below, which stand at an angle.
    heights = [1.2 + 0.45 * len(matrix.rows) + 0.035 * max(map(len, shown_names(matrix.victims))) for matrix in found]
    figure = new_figure(title, "\n".join([*lines, "–: nothing, or too little to tell"]), sum(heights))
    panels = figure.subplots(len(found), squeeze=False, height_ratios=heights)[:, 0]
    for axes, matrix in zip(panels, found, strict=True):
        rows, columns = shown_names(matrix.rows), shown_names(matrix.victims)
        shares = np.array([[cell.share if cell else np.nan for cell in row] for row in matrix.cells])
        axes.patch.set_facecolor(MISSING["facecolor"])
        # Not as far as the dark end, on which no text can be read.
        axes.imshow(shares, cmap="Oranges", vmin=0, vmax=1.6 * max(float(np.nanmax(shares)), 0.01), aspect="auto")
        for row, cells in enumerate(matrix.cells):
            for column, cell in enumerate(cells):
                text = "–" if cell is None else f"{cell.text}\n{cell.more}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=INK if cell else FAINT)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right", rotation_mode="anchor")
        axes.set_title(matrix.title)
        axes.set_ylabel(matrix.taker)
        axes.set_xlabel(matrix.victim)
    return figure


def _cut(matrix: Matrix) -> Matrix:
    """As much of it as can be read."""
    rows = [row[:_MOST_CELLS] for row in matrix.cells[:_MOST_CELLS]]
    return replace(matrix, rows=matrix.rows[:_MOST_CELLS], victims=matrix.victims[:_MOST_CELLS], cells=rows)


def time_spent(found: SpentCourses, names: Sequence[str], title: str, note: str | None) -> Figure:
    """Running and waiting of the first container's tasks on top of each other, holders in their colours."""
    figure = new_figure(title, note, 4.4)
    axes = figure.subplots()
    _layers(axes, found, names)
    set_time_axis(axes, found.axis)
    return figure


def _layers(axes: Axes, found: SpentCourses, names: Sequence[str]) -> None:
    """Where the time of the first container went."""
    layers = found.values[0]
    hatch(axes, found.axis, np.isnan(layers[0]))
    under = np.zeros(found.axis.buckets)
    for layer, (label, colour) in enumerate(zip(LAYERS, _LAYER_COLOURS, strict=True)):
        if np.nansum(layers[layer]) > _TRIFLE * np.nansum(layers):
            holder = layer - HOLDERS
            text = f"waited behind {names[holder]}" if 0 <= holder < COLOURED else label
            # Its own colour twice: what it waited for itself is striped.
            stripes = {"hatch": "/////", "edgecolor": "white"} if layer == HOLDERS - 1 else {}
            fill_between(axes, found.axis, under, under + layers[layer], facecolor=colour, label=text, **stripes)
            under = under + layers[layer]
    # What it ran, and what was stolen of that.
    draw_steps(axes, found.axis, layers[:2].sum(axis=0), color=INK, linewidth=0.8)
    axes.set_ylim(0, float(np.nanmax(under, initial=_LEAST_HIGH)) * 1.05)
    axes.set_title(f"Tasks of {names[0]}: below the line they ran, above it they waited for a CPU")
    set_units(axes)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)


def resources(found: Resources, names: Sequence[str], title: str, note: str | None) -> Figure:
    """Memory of each container, and below it how long tasks of the first one had to wait."""
    figure = new_figure(title, note, 5.4)
    memory, waiting = figure.subplots(2, sharex=True)
    known = ~np.isnan(found.memory.largest)
    if known.any():
        hatch(memory, found.axis, np.logical_and.reduce(~known))
    for number, colour in enumerate(LIGHT[: len(found.memory.largest)]):
        low, high = found.memory.least[number], found.memory.largest[number]
        if not np.isnan(high).all():
            fill_between(memory, found.axis, low, high, color=colour, alpha=0.4)
            draw_steps(memory, found.axis, high, color=colour, linewidth=1, label=names[number])
    memory.set_title("Memory")
    if known.any():
        memory.set_ylim(0)
        set_units(memory, "B")
        add_legend(memory)
    else:
        say_why_empty(
            memory, "memory.current was not recorded: a cgroup without the memory controller has none, nor has the root"
        )
    shares = {name: share for name, share in found.shares.items() if not np.isnan(share.largest[0]).all()}
    if shares:
        hatch(waiting, found.axis, np.logical_and.reduce([np.isnan(share.largest[0]) for share in shares.values()]))
    for (name, share), dashes in zip(shares.items(), _DASHES, strict=False):
        draw_steps(waiting, found.axis, share.largest[0], color=INK, linestyle=dashes, linewidth=1, label=name)
    # The root's files speak of the whole node.
    whose = "the node" if names[0] == "/" else names[0]
    waiting.set_title(f"Share of the time that tasks of {whose} waited (highest second)")
    if shares:
        highest = max(float(np.nanmax(share.largest[0])) for share in shares.values())
        # A line at zero is to be seen.
        waiting.set_ylim(-0.03 * max(highest, _LEAST_HIGH), max(highest, _LEAST_HIGH) * 1.05)
        waiting.yaxis.set_major_formatter(PERCENT)
        add_legend(waiting)
    else:
        say_why_empty(waiting, "no pressure was recorded: the kernel has no PSI, or has it turned off")
    set_time_axis(waiting, found.axis)
    return figure
