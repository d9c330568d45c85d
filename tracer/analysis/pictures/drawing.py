# SPDX-License-Identifier: Apache-2.0
"""What the figures have in common: axes of time, units, areas by bucket, and what is missing."""

import textwrap
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from tracer.analysis.pictures.axis import TimeAxis
from tracer.analysis.pictures.cast import shown_text
from tracer.analysis.pictures.courses import Line
from tracer.analysis.pictures.ticks import PLAIN, BinaryLocator, binary_formatter

Where = np.ndarray[tuple[int], np.dtype[np.bool_]]

INK = "#1b1f24"
FAINT = "#6b7480"
LONGEST_TEXT = 160
# Characters that have room above a figure in any case, and inches for a further line.
_LONGEST_TITLE = 115
_TITLE_LINE = 0.2
# What is missing is never white, which could be nothing.
MISSING: Final[dict[str, Any]] = {"facecolor": "#ececec", "edgecolor": "#b4b9c0", "hatch": "////", "linewidth": 0}
_NOT_RECORDED: Final = "not recorded"
# Of years, months, days, hours, minutes and seconds.
_TIMES: Final[dict[str, list[str]]] = {
    "formats": ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%H:%M:%S.%f"],
    "zero_formats": ["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M"],
    "offset_formats": ["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d"],
}


def new_figure(title: str, note: str | None, height: float) -> Figure:
    """A figure of this height in inches, with a title and below it a note of one or several lines."""
    lines = textwrap.wrap(shown_text(title, LONGEST_TEXT), _LONGEST_TITLE, break_on_hyphens=False)
    figure = Figure(figsize=(11, height + _TITLE_LINE * (len(lines) - 1)), layout="constrained")
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=11, fontweight="bold")
    if note:
        text = "\n".join(shown_text(line, LONGEST_TEXT) for line in note.split("\n"))
        figure.supxlabel(text, x=0.01, ha="left", fontsize=8, color=FAINT)
    return figure


def set_units(axes: Axes, unit: str | None = None) -> None:
    """Of the y axis: of bytes binary ones; else plain figures."""
    if unit is not None:
        axes.yaxis.set_major_locator(BinaryLocator())
    axes.yaxis.set_major_formatter(PLAIN if unit is None else binary_formatter(unit))


def say_why_empty(axes: Axes, why: str) -> None:
    """Nothing was measured: instead of an axis that means nothing, why."""
    axes.patch.set(**MISSING)
    axes.set_yticks([])
    box = {"facecolor": "white", "edgecolor": "none", "pad": 4}
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=INK, bbox=box)


def hatch(axes: Axes, axis: TimeAxis, where: Where, label: str = _NOT_RECORDED) -> None:
    """Hatches the buckets in which it is so, from top to bottom."""
    changes = np.flatnonzero(np.diff(np.concatenate([[False], where, [False]])))
    edges = axis.edges()
    for number, (first, last) in enumerate(zip(changes[::2], changes[1::2], strict=True)):
        axes.axvspan(edges[first], edges[last], label=label if number == 0 else None, zorder=0, **MISSING)


def add_legend(axes: Axes) -> None:
    """Beside the axes, if anything in them has a label."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)


def draw_steps(axes: Axes, axis: TimeAxis, values: Line, **style: Any) -> None:
    """A bucket's value holds from its start to its end."""
    axes.plot(axis.edges(), np.append(values, values[-1]), drawstyle="steps-post", **style)


def fill_between(axes: Axes, axis: TimeAxis, low: Line, high: Line, **style: Any) -> None:
    """An area whose edges hold from a bucket's start to its end."""
    low, high = np.append(low, low[-1]), np.append(high, high[-1])
    axes.fill_between(axis.edges(), low, high, step="post", linewidth=0, **style)


def set_time_axis(axes: Axes, axis: TimeAxis) -> None:
    """Times from the start of the axis to its end, in its zone."""
    locator = AutoDateLocator(tz=axis.zone, minticks=4)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=axis.zone, **_TIMES))  # type: ignore[no-untyped-call]
    edges = axis.edges()
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"time, {axis.zone.tzname(None)}")
