# SPDX-License-Identifier: Apache-2.0
"""An experiment as text."""

from typing import Final

from tracer.analysis.wording import percent
from tracer.cli.json_output import print_answer
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput
from tracer.experiment.cgroup_control import CPU_MAX
from tracer.experiment.experiment import Experiment
from tracer.experiment.outcome import ControlFile, Effect, Interval, Outcome, Plan
from tracer.experiment.schedule import SLOT_WINDOWS
from tracer.printable import printable as harmless

_WHAT: Final = {"waiting": "run-queue wait / CPU time", "cpi": "CPI (cycles / instruction)"}
_HOW: Final = {True: "throttled (cpu.max)", False: "frozen (cgroup.freeze)"}


def plan_text(experiment: Experiment) -> str:
    """What is going to be done, in a sentence."""
    schedule = experiment.schedule
    pulse_ns = SLOT_WINDOWS * schedule.window_ns
    return (
        f"{_plain(experiment.suspect.name)} is {_HOW[experiment.control.file == CPU_MAX]} {schedule.blocks} times for "
        f"{pulse_ns / 1e6:g} ms within {schedule.duration_ns / 1e9:g} s, while {_plain(experiment.victim.name)} is "
        "watched; Ctrl-C ends it early"
    )


def print_plan(experiment: Experiment, unknown: str | None, *, as_json: bool) -> None:
    """What would be done."""
    schedule, suspect = experiment.schedule, experiment.suspect
    pulse_ns = SLOT_WINDOWS * schedule.window_ns
    when = f"{schedule.blocks} times for {pulse_ns / 1e6:g} ms at random within {schedule.duration_ns / 1e9:g} s"
    if as_json:
        print_answer(
            Plan(
                victim=experiment.victim.named,
                suspect=suspect.named,
                processes=suspect.cgroup.processes,
                control=ControlFile(**experiment.control._asdict()),
                pauses=schedule.blocks,
                pulse_seconds=pulse_ns / 1e9,
                duration_seconds=schedule.duration_ns / 1e9,
                note=unknown,
            )
        )
        return
    output = TextOutput()
    output.say(f"Would pause {_plain(suspect.name)}, and watch {_plain(experiment.victim.name)}:")
    for line in (
        f"victim   {experiment.victim.cgroup.path}",
        f"suspect  {suspect.cgroup.path}, {_processes(suspect.cgroup.processes)}",
        f"by       {experiment.control.file}: {experiment.control.paused!r} in place of {experiment.control.found!r}",
        f"when     {when}, {schedule.blocks * pulse_ns / 1e9:g} s in all",
        *([f"note     {unknown}"] if unknown else []),
    ):
        output.say(line, first="   ", further=" " * 12)
    output.say("Nothing was touched.")


def print_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """The answer: a sentence for each effect, the figures, and what bears on them."""
    if as_json:
        print_answer(outcome)
        return
    output = TextOutput()
    for effect in outcome.effects:
        output.say(_sentence(effect, _plain(outcome.victim.name), _plain(outcome.suspect.name)))
    if any(effect.difference is not None for effect in outcome.effects):
        output.say()
        _print_figures(outcome, output)
    output.say()
    output.say(
        f"{outcome.pauses} pauses of {outcome.pulse_seconds * 1e3:g} ms by {outcome.control}, one in each "
        f"{outcome.block_seconds * 1e3:g} ms at random; {_plain(outcome.suspect.name)} had "
        f"{percent(outcome.suspect.cpus_otherwise)} of a CPU, and {percent(outcome.suspect.cpus_paused)} in pauses.",
    )
    if outcome.ended_early is not None:
        output.say(f"{outcome.pauses_planned} were planned: {outcome.ended_early}.")
    for note in outcome.notes:
        output.say(f"Note: {note}.")


def _sentence(effect: Effect, victim: str, suspect: str) -> str:
    does = {"waiting": f"{victim} waits for CPUs because of {suspect}", "cpi": f"{suspect} costs {victim} cycles"}
    does_not = {
        "waiting": f"{victim} does not wait for CPUs because of {suspect}",
        "cpi": f"{suspect} costs {victim} no cycles",
    }
    of = {"waiting": "its time", "cpi": "its cycles"}[effect.kind]
    if effect.verdict == "unknown" or effect.share is None:
        return f"Cannot be told: whether {does[effect.kind]}. {_sentence_case(effect.reason or '')}."
    if effect.verdict == "proved":
        return f"Proved: {does[effect.kind]}, {percent(effect.share.value)} of {of} (CI {_range(effect.share)})."
    high = effect.share.high or 0.0
    if high < 0:
        return (
            f"Refuted: {does_not[effect.kind]}. With it paused it is worse, by {percent(-effect.share.value)} of {of}."
        )
    return f"Refuted: {does_not[effect.kind]}; no effect of more than {percent(high)} of {of} would have been missed."


def _print_figures(outcome: Outcome, output: TextOutput) -> None:
    titles = ("PAUSED", "ELSE", "DIFFERENCE", f"CI {100 * outcome.confidence:g} %", "OF ALL")
    rows = [
        [
            _WHAT[effect.kind],
            f"{effect.paused:.3g}",
            f"{effect.otherwise:.3g}",
            f"{effect.difference.value:.3g}",
            f"{_bound(effect.difference.low)} to {_bound(effect.difference.high)}",
            percent(effect.share.value),
        ]
        for effect in outcome.effects
        if effect.difference is not None and effect.share is not None
    ]
    output.print_table([Column("", "name"), *map(Column, titles)], rows, indent=3)


def _range(share: Interval) -> str:
    return f"{_percentage(share.low)} to {_percentage(share.high)} %"


def _percentage(bound: float | None) -> str:
    return "?" if bound is None else f"{100 * bound:.1f}"


def _bound(bound: float | None) -> str:
    return "?" if bound is None else f"{bound:.3g}"


def _sentence_case(text: str) -> str:
    return text[:1].upper() + text[1:]


def _processes(number: int | None) -> str:
    return "processes not known" if number is None else f"{number} process{'' if number == 1 else 'es'}"


def _plain(name: str) -> str:
    return harmless(name.encode("utf-8", "backslashreplace"))
