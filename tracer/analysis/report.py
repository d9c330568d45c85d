# SPDX-License-Identifier: Apache-2.0
"""Who hurts whom, since when, how much: the report on a recording. `docs/analysis.md` describes the method.

Each node is looked at by itself, from its `ticks` where they were recorded with counters, else from its `windows`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import polars as pl

from tracer.analysis import findings, headline
from tracer.analysis.caveats import caveats, latency_caveats, wait_caveats
from tracer.analysis.cpu_map import cpu_map
from tracer.analysis.experiments import experiments
from tracer.analysis.findings import Activity, Aggressor, Basis, Container, Estimate, Latency, Report, TimeSpent, Victim
from tracer.analysis.interference.attribution import attribute, holm, with_interactions
from tracer.analysis.interference.cpu_users import cpu_users
from tracer.analysis.interference.details import Details, look_closer
from tracer.analysis.interference.episodes import bursts, time_ranges
from tracer.analysis.interference.explanations import Waiting, explain_from_ticks, waited_for_cpus
from tracer.analysis.interference.model import Fitted, Joint, Pair
from tracer.analysis.interference.rows import Source
from tracer.analysis.interference.tick_rows import TickRows
from tracer.analysis.interference.window_rows import WindowRows
from tracer.analysis.latencies.latencies import latencies
from tracer.analysis.latencies.wording import latency_sentences
from tracer.analysis.moments import Times
from tracer.analysis.recording import Recording, of_what_can_be_read
from tracer.analysis.roster import Roster
from tracer.analysis.timing import Timing, timing_of
from tracer.analysis.waits.costs import ranked_costs
from tracer.analysis.waits.spent import time_spent
from tracer.analysis.wording import nothing_found, untold_sentence

# With less of the node's cycles or misses, or of what each would have if all had the same, nobody is looked at as a
# victim or a suspect, and never more than so many.
_LEAST_CYCLES = 0.005
_LEAST_MISSES = 0.01
_LEAST_OF_EVEN = 0.5
_MOST_VICTIMS = 16
_MOST_SUSPECTS = 12
_MOST_BUSY_SUSPECTS = 6
_MOST_ACTIVITY = 20
_MOST_CPUS = 2**12
# What nobody can tell is said from a possible loss of that share on.
_UNTOLD_SHARE = 0.1
# The chance that anybody at all is blamed where nobody harms anybody.
_FALSE_ALARMS = 0.01
# Where there is no doubt that a victim is slower when a suspect is busy, but how much slower it cannot be told, with
# hardly a moment without the suspect: it is named as likely from such a loss on, beside a larger one only from so much
# of that on, for it may be its shadow. Of those so named in simulated runs nineteen in twenty were true
# (`bench/interference.py`), which is what is promised of the others.
_NO_DOUBT = 1e-6
_LIKELY_SHARE = 0.05
_LIKELY_OF_LARGEST = 0.5
# What is there, but not enough to be named, may be so much larger: where caches are full, little of it varies.
_TOO_SMALL_BY = 2.5
_LIKELY = 0.1

Progress = Callable[[str, int, int], None]


class _Node(NamedTuple):
    """A node's models and the pairs that are believed, with their corrected p-values."""

    name: str
    timing: Timing
    source: Source
    models: list[Fitted]


class _Found(NamedTuple):
    victims: list[Victim]
    joint: list[findings.Joint]
    untold: list[findings.Untold]
    activity: list[Activity]
    time_spent: list[TimeSpent]
    latencies: list[Latency]


@of_what_can_be_read
def report(recording: Recording, *, progress: Progress | None = None) -> Report:
    """The report. `progress` is told what is done now, and how many of how many steps are.

    Raises UsageError for a recording that cannot be read.
    """
    say = progress or (lambda _what, _done, _steps: None)
    names = recording.nodes
    steps = len(names) + 3
    say("who is there", 0, steps)
    roster = Roster(recording)
    names = roster.containers["node_name"].unique().sort().to_list()
    nodes = []
    for number, name in enumerate(names):
        say(f"comparing on {name}" if len(names) > 1 else "comparing", 1 + number, steps)
        if (node := _compare(recording, roster, name)) is not None:
            nodes.append(node)
    say("looking closer", steps - 2, steps)
    believed, together = _believed(nodes)
    details = {node.name: look_closer(node.source, _again(node, believed[node.name])) for node in nodes}
    say("other explanations", steps - 1, steps)
    found = _findings(recording, roster, nodes, believed, together, details)
    basis = _basis(nodes)
    costs = ranked_costs(found.time_spent, found.victims)
    times = Times(recording.shown(recording.span.start), recording.shown(recording.span.end), recording.recorded_time())
    say("done", steps, steps)
    return Report(
        basis=basis,
        start=times.start,
        end=times.end,
        recorded_seconds=times.recorded.total_seconds(),
        nodes=names,
        headline=_headline(times, roster, found, basis, names, nodes),
        costs=costs,
        experiments=experiments(costs, found.victims, found.joint, found.untold),
        time_spent=found.time_spent,
        victims=found.victims,
        joint=found.joint,
        untold=found.untold,
        latencies=found.latencies,
        detectable_share=_detectable(nodes),
        activity=found.activity,
        containers_examined=_examined(nodes),
        pairs_tested=sum(len(model.pairs) for node in nodes for model in node.models),
        caveats=[
            *caveats(recording, roster, basis=basis, models=[model for node in nodes for model in node.models]),
            *wait_caveats(recording, found.time_spent),
            *latency_caveats(recording),
        ],
    )


def _basis(nodes: Sequence[_Node]) -> Basis:
    if not nodes:
        return "cpu-time"
    return "ticks" if all(isinstance(node.source, TickRows) for node in nodes) else "windows"


def _compare(recording: Recording, roster: Roster, node_name: str) -> _Node | None:
    """The models of a node; None where counters are missing, or there is nobody to compare."""
    here = roster.containers.filter(pl.col("node_name") == node_name)
    even = _LEAST_OF_EVEN / max(here.height, 1)
    cycles, misses = (float(here[name].sum()) for name in ("cycles_counted", "llc_misses"))
    victims = (
        here.filter(pl.col("is_wanted") & (pl.col("cycles_counted") > min(_LEAST_CYCLES, even) * cycles))
        .sort("cycles_counted", descending=True)
        .head(_MOST_VICTIMS)
    )
    suspects = (
        here.filter(pl.col("llc_misses") > min(_LEAST_MISSES, even) * misses)
        .sort("llc_misses", descending=True)
        .head(_MOST_SUSPECTS)
    )
    rows = _tick_rows(recording, node_name)
    cpus = cpu_map(recording.manifests, node_name, _MOST_CPUS)
    has_siblings = bool((cpus.sibling >= 0).any())
    if has_siblings:
        # Who misses little can still take a part of a core from its sibling.
        busiest = here.sort("cpu_time_ns", descending=True).head(_MOST_BUSY_SUSPECTS)
        suspects = pl.concat([suspects, busiest]).unique("member", maintain_order=True)
    if victims.is_empty() or suspects.is_empty():
        return None
    timing = timing_of(recording, node_name)
    numbers = {"victims": victims["member"].to_list(), "suspects": suspects["member"].to_list()}
    source: Source
    if rows:
        source = TickRows(recording, roster, node_name, tick_ns=timing.tick_ns, rows=rows, **numbers)
    else:
        source = WindowRows(
            recording,
            roster,
            node_name,
            tick_ns=timing.tick_ns,
            window_ticks=timing.window_ticks,
            llcs=cpus.domains if cpus.is_known else None,
            beside=(suspects["cpu_time_ns"] / max(roster.node_time_ns(node_name), 1)).to_list()
            if has_siblings
            else [0.0] * suspects.height,
            **numbers,
        )
    cycles_by_misses = dict(
        suspects.select("member", pl.col("llc_misses").fill_null(0) * source.most_of_suspect_miss).iter_rows()
    )
    return _Node(node_name, timing, source, [_within_reach(model, cycles_by_misses) for model in attribute(source)])


def _within_reach(model: Fitted, cycles_by_misses: dict[int, float]) -> Fitted:
    """Nobody costs more than the misses that its own lines made: a pair that seems to is beyond the model."""
    pairs = []
    for pair in model.pairs:
        reach = cycles_by_misses[pair.suspect] / model.cycles + pair.sibling_share
        if pair.share > reach:
            possible = max(pair.high, pair.detectable_share or 0.0)
            pair = pair._replace(low=0.0, p_value=1.0, detectable_share=possible)
        pairs.append(pair)
    return model._replace(pairs=pairs)


def _tick_rows(recording: Recording, node_name: str) -> int:
    """How many rows of ticks there are with counters; 0 where windows are to be used."""
    if not recording.has("ticks"):
        return 0
    rows = recording.scan("ticks").filter(pl.col("node_name") == node_name)
    found = recording.collect(rows.select(pl.len(), pl.col("llc_misses").count().alias("counted"))).row(0)
    return int(found[0]) if found[1] else 0


def _believed(nodes: Sequence[_Node]) -> tuple[dict[str, dict[int, list[Pair]]], list[tuple[Fitted, Joint]]]:
    """What is not chance, nor small enough to be something else; p-values corrected.

    By node and victim, its pairs; and groups of suspects that cannot be told apart, instead of their pairs.
    """
    looked_at: list[tuple[_Node, Fitted, Pair | Joint]] = []
    for node in nodes:
        for model in node.models:
            in_groups = {suspect for group in model.joint for suspect in group.suspects}
            alone = [pair for pair in model.pairs if pair.suspect not in in_groups]
            looked_at += [(node, model, pair) for pair in alone]
            looked_at += [(node, model, group) for group in model.joint]
    corrected = holm([one.p_value for _node, _model, one in looked_at])
    believed: dict[str, dict[int, list[Pair]]] = {node.name: {} for node in nodes}
    together = []
    for (node, model, one), p_value in zip(looked_at, corrected, strict=True):
        if p_value < _FALSE_ALARMS and one.low > node.source.least_share:
            found = one._replace(p_value=p_value)
        elif (
            node.source.has_channels
            and p_value < _NO_DOUBT
            and one.share > max(_LIKELY_SHARE, _LIKELY_OF_LARGEST * max(pair.share for pair in model.pairs))
        ):
            found = one._replace(low=max(one.low, 0.0), high=min(one.high, 1.0), p_value=_LIKELY)
        else:
            continue
        if isinstance(found, Joint):
            together.append((model, found))
        else:
            believed[node.name].setdefault(found.victim, []).append(found)
    return believed, together


def _joint(roster: Roster, model: Fitted, joint: Joint) -> findings.Joint:
    share = Estimate(value=joint.share, low=joint.low, high=joint.high)
    return findings.Joint(
        victim=roster.container(model.victim),
        cpu_time_ns=roster.containers.row(model.victim, named=True)["cpu_time_ns"],
        aggressors=[roster.container(suspect) for suspect in joint.suspects],
        lost_cycles=_times(share, model.cycles),
        lost_share=share,
        confidence=1 - joint.p_value,
    )


def _untold(
    roster: Roster,
    nodes: Sequence[_Node],
    believed: dict[str, dict[int, list[Pair]]],
    together: Sequence[tuple[Fitted, Joint]],
) -> list[findings.Untold]:
    """Who could have lost much to whom without anybody being able to tell."""
    found = []
    for node in nodes:
        for model in node.models:
            told = {pair.suspect for pair in believed[node.name].get(model.victim, [])}
            told |= {suspect for of, joint in together if of is model for suspect in joint.suspects}
            possible = {pair.suspect: _possible(pair) for pair in model.pairs}
            untold = [
                pair for pair in model.pairs if possible[pair.suspect] >= _UNTOLD_SHARE and pair.suspect not in told
            ]
            if untold:
                found.append(
                    findings.Untold(
                        container=roster.container(model.victim),
                        suspects=[roster.container(pair.suspect) for pair in untold],
                        detectable_share=max(possible[pair.suspect] for pair in untold),
                    )
                )
        for victim in set(node.source.victims) - {model.victim for model in node.models}:
            # Too little of it was counted.
            suspects = [roster.container(suspect) for suspect in node.source.suspects if suspect != victim]
            found.append(findings.Untold(container=roster.container(victim), suspects=suspects, detectable_share=1.0))
    return found


def _possible(pair: Pair) -> float:
    """The largest share that a victim may have lost to somebody who is not named."""
    may_be_small = _TOO_SMALL_BY * pair.share if pair.p_value < _FALSE_ALARMS else 0.0
    return max(pair.detectable_share or 0.0, pair.high, may_be_small)


def _detectable(nodes: Sequence[_Node]) -> float | None:
    """The largest loss that could have gone unseen, but for those of which nobody can tell."""
    known = [
        pair.detectable_share
        for node in nodes
        for model in node.models
        for pair in model.pairs
        if pair.detectable_share is not None and pair.detectable_share < _UNTOLD_SHARE
    ]
    return max(known, default=None)


def _again(node: _Node, believed: dict[int, list[Pair]]) -> dict[int, tuple[Fitted, list[Pair]]]:
    """The models of victims, with what their aggressors do together where there are several, and the pairs of it."""
    models = {model.victim: model for model in node.models if model.victim in believed}
    if node.source.has_channels:
        return {victim: (models[victim], pairs) for victim, pairs in believed.items()}
    several = [model for model in models.values() if len(believed[model.victim]) > 1]
    aggressors = [[pair.suspect for pair in believed[model.victim]] for model in several]
    models.update((model.victim, model) for model in with_interactions(node.source, several, aggressors))
    found = {}
    for victim, pairs in believed.items():
        now = {pair.suspect: pair for pair in models[victim].pairs}
        found[victim] = (models[victim], [now[pair.suspect]._replace(p_value=pair.p_value) for pair in pairs])
    return found


def _findings(
    recording: Recording,
    roster: Roster,
    nodes: Sequence[_Node],
    believed: dict[str, dict[int, list[Pair]]],
    together: Sequence[tuple[Fitted, Joint]],
    details: dict[str, dict[int, Details]],
) -> _Found:
    spent = time_spent(recording, roster)
    busiest = roster.containers.filter("is_wanted")["member"].head(_MOST_ACTIVITY).to_list()
    harmed = [victim for of_node in believed.values() for victim in of_node]
    containers = {member: roster.container(member) for member in {*busiest, *harmed}}
    with_waits = {one.container.node_name for one in spent}
    waiting = Waiting(recording, list(containers.values()), with_waits)
    victims = [
        _victim(recording, roster, node, details[node.name][number], waiting)
        for node in nodes
        for number in details[node.name]
    ]
    victims.sort(key=lambda victim: -victim.lost_cycles.value)
    activity = {member: _activity(roster, member, containers[member], waiting) for member in busiest}
    waited = [member for member, one in activity.items() if waited_for_cpus(one.other_explanations)]
    for member, users in cpu_users(recording, roster, waited).items():
        activity[member] = msgspec.structs.replace(activity[member], cpu_users=users)
    return _Found(
        victims=victims,
        joint=[_joint(roster, *one) for one in together],
        untold=_untold(roster, nodes, believed, together),
        activity=list(activity.values()),
        time_spent=spent,
        latencies=latencies(recording, roster, spent, victims),
    )


def _victim(recording: Recording, roster: Roster, node: _Node, details: Details, waiting: Waiting) -> Victim:
    model, pairs = details.model, sorted(details.pairs, key=lambda pair: -pair.share)
    container = roster.container(model.victim)
    row = roster.containers.row(model.victim, named=True)
    lost = sum(pair.share for pair in pairs)
    # The pairs' errors are taken to be independent.
    below, above = (
        float(np.sqrt(sum((end - pair.share) ** 2 for end, pair in zip(ends, pairs, strict=True))))
        for ends in ([pair.low for pair in pairs], [pair.high for pair in pairs])
    )
    share = Estimate(value=lost, low=lost - below, high=lost + above)
    is_by_tick = isinstance(node.source, TickRows)
    return Victim(
        container=container,
        cpu_time_ns=row["cpu_time_ns"],
        cycles=int(model.cycles),
        instructions=int(model.instructions),
        cpi=model.cycles / model.instructions,
        lost_cycles=_times(share, model.cycles),
        lost_share=share,
        noisy_and_quiet=details.noisy_and_quiet,
        aggressors=[_aggressor(recording, roster, node, details, pair, lost) for pair in pairs],
        other_explanations=[
            *waiting.explanations(container),
            *explain_from_ticks(
                moved_share=details.moved_share if is_by_tick else None,
                sibling_share=model.sibling_share,
                cold_share=model.cold_share,
            ),
        ],
    )


def _aggressor(
    recording: Recording, roster: Roster, node: _Node, details: Details, pair: Pair, lost: float
) -> Aggressor:
    row = roster.containers.row(pair.suspect, named=True)
    share = Estimate(value=pair.share, low=pair.low, high=pair.high)
    line_bytes = cpu_map(recording.manifests, node.name, 1).line_bytes
    return Aggressor(
        container=roster.container(pair.suspect),
        lost_cycles=_times(share, details.model.cycles),
        lost_share=share,
        share_of_loss=pair.share / lost,
        confidence=1 - pair.p_value,
        correlation=details.correlations.get(pair.suspect),
        delay_ticks=pair.delay_steps if isinstance(node.source, TickRows) else None,
        traffic_bytes_per_second=row["llc_misses"] * line_bytes / (row["cpu_time_ns"] / 1e9),
        bursts=bursts(details.bursts[pair.suspect], node.source.step_ns),
        time_ranges=time_ranges(
            details.lost_by_bin[pair.suspect],
            lambda number: recording.shown(node.source.timeline.time_of(number * details.bin_steps)),
        ),
    )


def _times(share: Estimate, cycles: float) -> Estimate:
    return Estimate(value=share.value * cycles, low=share.low * cycles, high=share.high * cycles)


def _activity(roster: Roster, member: int, container: Container, waiting: Waiting) -> Activity:
    row = roster.containers.row(member, named=True)
    counted = row["instructions_counted"]
    return Activity(
        container=container,
        cpu_time_ns=row["cpu_time_ns"],
        cpu_share_of_node=row["cpu_time_ns"] / max(roster.node_time_ns(container.node_name), 1),
        cpi=row["cycles_counted"] / counted if counted else None,
        misses_per_kilo_instruction=None
        if row["llc_misses"] is None or not row["instructions"]
        else row["llc_misses"] / row["instructions"] * 1000,
        other_explanations=waiting.explanations(container),
        cpu_users=[],
    )


def _headline(
    times: Times,
    roster: Roster,
    found: _Found,
    basis: Basis,
    names: Sequence[str],
    nodes: Sequence[_Node],
) -> list[str]:
    if not found.activity:
        return ["Nothing can be told: no windows are recorded."]
    return [
        *_lines(times, roster, found, basis, names, nodes),
        *latency_sentences(found.latencies, names),
    ]


def _lines(
    times: Times,
    roster: Roster,
    found: _Found,
    basis: Basis,
    names: Sequence[str],
    nodes: Sequence[_Node],
) -> list[str]:
    caches = []
    if not found.victims and not found.joint and any(model.pairs for node in nodes for model in node.models):
        pairs = sum(len(model.pairs) for node in nodes for model in node.models)
        least = max(_detectable(nodes) or 0.0, *(node.source.least_share for node in nodes))
        caches.append(nothing_found(_examined(nodes), pairs, least))
    if found.untold:
        caches.append(untold_sentence(found.untold, _looked_at(nodes), _UNTOLD_SHARE))
    if found.time_spent:
        return headline.from_waits(
            found.time_spent, found.victims, found.joint, found.activity, names, times, caches=caches
        )
    return headline.without_waits(
        found.victims, found.joint, found.activity, basis, names, times, busy=1 - roster.idle_share, caches=caches
    )


def _examined(nodes: Sequence[_Node]) -> int:
    return len({(node.name, model.victim) for node in nodes for model in node.models})


def _looked_at(nodes: Sequence[_Node]) -> int:
    """How many could have been a victim, also of whom too little was counted."""
    return sum(len(set(node.source.victims) | {model.victim for model in node.models}) for node in nodes)
