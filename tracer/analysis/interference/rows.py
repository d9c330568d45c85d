# SPDX-License-Identifier: Apache-2.0
"""What a comparison is made of, whichever table it is from: the rows of one victim, and what its neighbours did.

A *step* is a tick or a window, numbered by a `Timeline`. N rows, C controls, A suspects.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from tracer.analysis.interference.regression import Bools, Floats, Ints
from tracer.analysis.interference.timeline import Timeline


class Channels(NamedTuple):
    """By which ways neighbours can slow a victim down, in the rows of `VictimRows`; M memories.

    exposure: what the victim's cache remembers of the traffic of each suspect and of all others, [N, A + 1, M], each 0
        to 1: makes that of some rows, and of some of these A + 1, as all of it is large.
    queue: [N, A + 1], lines that each of them has fetched in the tick from the memory that the row's CPU is at.
    queue_knot: where waiting for it may begin to grow faster.
    """

    exposure: Callable[[slice, Sequence[int]], Floats]
    queue: Floats
    queue_knot: float


class VictimRows(NamedTuple):
    """Rows of one victim, by ascending `step`.

    cycles, instructions: [N], 0 where either was not counted. misses: [N], its own, 0 where they were not counted.
    is_known: [N], whether they and all that the neighbours did were counted.
    is_usable: [N], whether the row can be compared: known, and of more than a trifle of work.
    controls: [N, C], what else its CPI may depend on: see `docs/analysis.md`.
    traffic: of lags [A], the LLC misses [N, A] in a tick of each suspect on the same LLC, so many steps before; steps
        before the segment's first are taken from its end.
    responses: of a value [N] and lags [L], the sums [L, A] of its products with each suspect's traffic so many steps
        before.
    rest: [N], the misses of all others.
    sibling: [N, A], share of the tick in which the suspect ran on the SMT sibling; None where nobody can tell.
    has_moved: [N], whether it ran on this CPU without having run there when it ran last; None where nobody can tell.
    channels: None where rows do not tell them apart.
    """

    step: Ints
    cycles: Floats
    instructions: Floats
    misses: Floats
    is_known: Bools
    is_usable: Bools
    controls: Floats
    traffic: Callable[[Ints], Floats]
    responses: Callable[[Floats, Ints], Floats]
    rest: Floats
    sibling: Floats | None
    has_moved: Bools | None
    channels: Channels | None = None


class Segment(NamedTuple):
    """A part of the recording, of `steps` steps from `first_step` on.

    rows_of: a victim's rows, which may be none. suspect_misses: [A, steps], of each suspect on the whole node.
    """

    first_step: int
    steps: int
    rows_of: Callable[[int], VictimRows]
    suspect_misses: Floats


class Source(Protocol):
    """Rows of a node, segment by segment, as often as one asks. Victims and suspects are numbers of the roster.

    step_ns: length of a step. steps: how many there are. stretch_steps: rows are compared within so many.
    lags: how many steps later an effect is looked for.
    is_ratio: whether the effects of neighbours multiply a victim's CPI, and do not add to it.
    model_error: standard deviation of what this way of looking makes of a loss, as a share of it, whatever the number
        of rows. least_share: what may be lost for other reasons that it cannot tell from neighbours.
    most_of_suspect_miss: cycles that a suspect can cost a victim for each of its own misses, which put out a line each.
    has_channels: whether rows have `Channels`. memories: M of these. own_controls: how many of the controls, from the
        first on, are the victim's own work and pauses, and nobody else's doing.
    beside: [A], the share of time that a suspect may have been on a CPU's sibling, where rows do not say.
    sibling_control: which control says how busy the SMT sibling is; None without. cold_controls: those of a pause.
    """

    victims: list[int]
    suspects: list[int]
    timeline: Timeline
    step_ns: int
    steps: int
    stretch_steps: int
    lags: int
    is_ratio: bool
    has_channels: bool
    memories: int
    own_controls: int
    model_error: float
    least_share: float
    most_of_suspect_miss: float
    beside: Floats
    sibling_control: int | None
    cold_controls: slice

    def segments(self) -> Iterator[Segment]:
        """All segments in the order of time."""
        ...


def lagged_products(values: Floats, traffic: Floats, lags: Ints) -> Floats:
    """[L, A]: sums of `values` [T] times `traffic` [T, A] of so many rows before, the first rows' from the end."""
    found: Floats = np.stack([np.roll(values, -lag) for lag in lags]) @ traffic
    return found


def work_hinges(instructions: Floats, knots: Floats) -> Floats:
    """[N, len(knots)]: columns that together make any line with bends at `knots`, of how much work there was."""
    found: Floats = np.maximum(instructions[:, None] - knots[None, :], 0.0)
    return found
