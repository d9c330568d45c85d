# SPDX-License-Identifier: Apache-2.0
"""What came out of an experiment, as data: `tracer verify --json` is this, and its text is made from it."""

from typing import Literal

import msgspec

from tracer.naming import Named

OUTCOME_VERSION = 2

Verdict = Literal["proved", "refuted", "unknown"]
Kind = Literal["waiting", "cpi"]


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A value and its interval; an end that nothing bounds is None."""

    value: float
    low: float | None
    high: float | None


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """What pausing the suspect did to the victim.

    `waiting`: time its tasks were ready and did not run, by its CPU time; `cpi`: cycles by instructions; `paused` in
    the pauses, `otherwise` in the slots like them. `difference` is what was more without a pause, `share` the same as a
    share of the victim's ready time (what it ran and waited) or of its cycles: what the suspect costs it. `p_value`:
    the chance of as much if pausing changed nothing. None where there is nothing to say it by, and `reason` says why.

    `proved`: the suspect costs it something; `refuted`: no more than the upper end of `share`, which is little;
    `unknown`: neither.
    """

    kind: Kind
    verdict: Verdict
    reason: str | None
    paused: float | None
    otherwise: float | None
    difference: Interval | None
    share: Interval | None
    p_value: float | None


class Side(Named, frozen=True, kw_only=True):
    """The victim or the suspect; the CPU time it had in pauses and in the slots like them, in CPUs."""

    cpus_paused: float
    cpus_otherwise: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    `control` is the file that paused the suspect. `pauses` is how many there were of `pauses_planned`, each of
    `pulse_seconds` within `block_seconds`; `ended_early` says why not all. `confidence` is that of the intervals, so
    that all of them hold in 95 % of experiments. `latest_pause_ms`: how late the latest one began. `notes` bear on it.
    """

    command: Literal["verify"] = "verify"
    version: int = OUTCOME_VERSION
    dry_run: Literal[False] = False
    victim: Side
    suspect: Side
    control: str
    pauses: int
    pauses_planned: int
    pulse_seconds: float
    block_seconds: float
    ended_early: str | None
    latest_pause_ms: float
    confidence: float
    seed: int
    effects: list[Effect]
    notes: list[str]


class ControlFile(msgspec.Struct, frozen=True, kw_only=True):
    """A control file's name, the text that is in it, and the one that pauses the cgroup."""

    file: str
    found: str
    paused: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done, with `--dry-run`: `pauses` of `pulse_seconds` within `duration_seconds`, by `control`.

    `processes` are those of the suspect, None where that cannot be read. `note`: what this node does not know of it.
    """

    command: Literal["verify"] = "verify"
    version: int = OUTCOME_VERSION
    dry_run: Literal[True] = True
    victim: Named
    suspect: Named
    processes: int | None
    control: ControlFile
    pauses: int
    pulse_seconds: float
    duration_seconds: float
    note: str | None
