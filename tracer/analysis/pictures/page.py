# SPDX-License-Identifier: Apache-2.0
"""The report with its pictures as one HTML file, which needs nothing else: no network, no other file.

Names in it are whatever somebody chose. Text goes through the template's escaping, what the script reads is JSON in
which no tag can be, and the page's own policy lets no script run but its own and nothing be fetched.
"""

import base64
import hashlib
import re
from collections.abc import Mapping
from datetime import timedelta
from importlib import resources
from pathlib import Path
from typing import Any, Final

import jinja2
import msgspec
from markupsafe import Markup

from tracer import __version__, naming
from tracer.analysis.findings import Report
from tracer.analysis.moments import moment_text, range_text, zone_text
from tracer.analysis.pictures.cast import ROOT, choose_cast, shown_names, shown_text
from tracer.analysis.pictures.colours import DARK, DARK_OTHER, LIGHT, LIGHT_OTHER
from tracer.analysis.pictures.courses import Courses
from tracer.analysis.pictures.matrix import Cell, Matrix, matrices_of, unseen
from tracer.analysis.pictures.node_facts import node_facts
from tracer.analysis.pictures.packing import Packed
from tracer.analysis.pictures.resources import Resources
from tracer.analysis.pictures.scene import Scene, read_scene
from tracer.analysis.pictures.time_spent import HOLDERS, LAYERS, SpentCourses
from tracer.analysis.recording import Recording, of_what_can_be_read
from tracer.analysis.report import Progress
from tracer.analysis.roster import Roster
from tracer.analysis.wording import name_of, percent, recorded_text, share_with_interval, time_text
from tracer.store.files import replacing

# What bounds the file, at about 7 MB. The buckets are for all nodes together.
_BUCKETS: Final = 6000
_MOST_NODES: Final = 4
_MOST_VICTIMS: Final = 20
_MOST_COSTS: Final = 10
_MOST_EXPERIMENTS: Final = 3
_LONGEST_TEXT: Final = 4000
_LONGEST_NAME: Final = 100
_SURE: Final = 0.999
# Between a figure and its unit.
_UNIT: Final = re.compile(r"(?<=\d) (?=(?:%|ms|s|min|h)(?!\w))")
# Of the cells of the matrix, as the style has them.
_SHADES = 5
_SCRIPTS = ("uPlot.iife.min.js", "data.js", "charts.js", "page.js")
_STYLES = ("uPlot.min.css", "page.css")


@of_what_can_be_read
def write_page(recording: Recording, report: Report, path: Path, *, progress: Progress | None = None) -> None:
    """Writes the page of `report` to `path`. `progress` is as for `tracer.analysis.report.report`.

    Nodes with victims come first, then by CPU time; of more than four the others are left out, and the page says so.
    Raises UsageError for a recording that cannot be read, OutputError if `path` cannot be written.
    """
    roster = Roster(recording)
    nodes = _ranked_nodes(roster, report)
    pictured = nodes[:_MOST_NODES]
    packed = Packed()
    scenes = []
    for number, node in enumerate(pictured):
        if progress is not None:
            progress("drawing", number, len(pictured))
        cast = choose_cast(recording, roster, report, node)
        closer_looks = 3 if len(pictured) == 1 else 1
        scene = read_scene(recording, report, cast, buckets=_BUCKETS // len(pictured), closer_looks=closer_looks)
        scenes.append(_scene_data(scene, packed))
    page = _render(recording, report, scenes, packed, left_out=nodes[_MOST_NODES:])
    with replacing(path) as file:
        file.write(page.encode("utf-8"))


def _ranked_nodes(roster: Roster, report: Report) -> list[str]:
    by_use = roster.containers.group_by("node_name", maintain_order=True).agg()["node_name"]
    hurt = [cost.container.node_name for cost in report.costs]
    hurt += [victim.container.node_name for victim in report.victims]
    return list(dict.fromkeys([*hurt, *by_use]))


def _scene_data(scene: Scene, packed: Packed) -> dict[str, Any]:
    """What the script draws of one node; arrays by their position in `packed`."""
    cast = scene.cast
    shown = scene.views[0].courses.shown
    return {
        "node": shown_text(cast.node),
        "names": cast.names[:shown],
        "hidden": len(cast.names) - shown,
        "why": cast.facts.why_not_counted and _shown(cast.facts.why_not_counted),
        "line_bytes": cast.facts.line_bytes,
        "views": [
            {"title": view.title, "about": view.about, "unit": view.unit, **_courses_data(view.courses, packed)}
            | {"spent": None if view.spent is None else _spent_data(view.spent, packed)}
            for view in scene.views
        ],
        "resources": None if scene.resources is None else _resources_data(scene.resources, packed),
        "densities": {
            str(number): {
                "measure": found.measure,
                "from": float(found.values[0]),
                "to": float(found.values[-1]),
                "points": len(found.values),
                "noisy": packed.add(found.noisy),
                "quiet": packed.add(found.quiet),
                "noisy_mean": found.noisy_mean,
                "quiet_mean": found.quiet_mean,
                "noisy_windows": found.noisy_windows,
                "quiet_windows": found.quiet_windows,
            }
            for number, found in scene.densities.items()
        },
    }


def _courses_data(courses: Courses, packed: Packed) -> dict[str, Any]:
    data: dict[str, Any] = _axis_data(courses) | {"rows": courses.shown + 1}
    data["cpus"] = {name: packed.add(getattr(courses.cpus, name)) for name in ("mean", "peak", "total_peak")}
    data["waiting"] = data["traffic"] = data["cpi"] = None
    if courses.has_waits:
        data["waiting"] = {name: packed.add(getattr(courses.waiting, name)) for name in ("mean", "peak", "total_peak")}
    if courses.counted:
        data["traffic"] = {name: packed.add(getattr(courses.traffic, name)) for name in ("mean", "peak", "total_peak")}
    if courses.has_cpi:
        data["cpi"] = {name: packed.add(getattr(courses, name)) for name in ("cpi", "cpi_min", "cpi_max")}
    return data


def _spent_data(found: SpentCourses, packed: Packed) -> dict[str, Any]:
    return _axis_data(found) | {
        "rows": len(found.values),
        "layers": LAYERS,
        "holders": HOLDERS,
        "values": packed.add(found.values),
    }


def _resources_data(found: Resources, packed: Packed) -> dict[str, Any]:
    return _axis_data(found) | {
        "rows": len(found.memory.largest),
        "memory": {"least": packed.add(found.memory.least), "largest": packed.add(found.memory.largest)},
        "shares": {name: packed.add(share.largest) for name, share in found.shares.items()},
    }


def _axis_data(drawn: Courses | Resources | SpentCourses) -> dict[str, float]:
    """Times as a browser has them, in ms."""
    axis = drawn.axis
    return {"start": axis.start_ns / 1e6, "step": axis.bucket_ns / 1e6, "buckets": axis.buckets}


def _matrix_data(matrix: Matrix) -> dict[str, Any]:
    """What the template writes of it: `rows` of a name and its cells, `victim_names` for the columns."""
    cells = [row[:_MOST_VICTIMS] for row in matrix.cells[:_MOST_VICTIMS]]
    largest = max((cell.share for row in cells for cell in row if cell is not None), default=1) or 1

    def shown(cell: Cell | None) -> dict[str, Any] | None:
        if cell is None:
            return None
        shade = max(1, min(_SHADES, round(_SHADES * cell.share / largest)))
        return {"share": cell.text, "more": cell.more, "shade": shade}

    return {
        "title": matrix.title,
        "taker": matrix.taker,
        "victim_names": shown_names(matrix.victims[:_MOST_VICTIMS]),
        "rows": [
            (name, [shown(cell) for cell in row])
            for name, row in zip(shown_names(matrix.rows[:_MOST_VICTIMS]), cells, strict=True)
        ],
    }


def _render(
    recording: Recording, report: Report, scenes: list[dict[str, Any]], packed: Packed, *, left_out: list[str]
) -> str:
    about_root = recording.is_about_some
    script, style = "\n".join(map(_asset, _SCRIPTS)), "\n".join([*map(_asset, _STYLES), _colours()])
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    told = _told_names(report)
    environment.filters |= {
        "shown": _shown,
        "sentence": lambda text: _sentence(text, told),
        "moment": moment_text,
        "zone": zone_text,
        "recorded": recorded_text,
        "length_of": time_text,
        "percent": percent,
        "share": share_with_interval,
        "sure": lambda confidence: "> 99.9 %" if confidence > _SURE else percent(confidence),
        "range": lambda one: range_text(one.start, one.end, report.start, report.end),
        "name": lambda container: told[name_of(container, report.nodes)],
        "only_name": lambda container: told[container.name],
    }
    return environment.from_string(_asset("page.html.jinja")).render(
        report=report,
        limits={
            "victims": _MOST_VICTIMS,
            "activity": _MOST_VICTIMS,
            "costs": _MOST_COSTS,
            "experiments": _MOST_EXPERIMENTS,
        },
        how={"waiting": "run queue", "throttling": "throttled", "cache": "caches"},
        notes=recording.notes,
        # The kernel's own threads are not whom people ask about first.
        costs=sorted(report.costs, key=lambda cost: cost.container.name == ROOT and not about_root),
        matrices=[
            (node, _matrix_data(matrix))
            for node in report.nodes[:_MOST_NODES]
            for matrix in matrices_of(report, node, about_root=about_root)
        ],
        unseen=[
            (node, sentence)
            for node in report.nodes[:_MOST_NODES]
            for sentence in unseen(report, node, node_facts(recording, node).why_not_counted, about_root=about_root)
        ],
        left_out=left_out,
        version=__version__,
        policy=f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'",
        script=Markup(script),
        style=Markup(style),
        # `<` begins a tag or a comment; in JSON it can only be in a string.
        data=Markup(msgspec.json.encode({"scenes": scenes, "zone": _zone(report)}).decode().replace("<", "\\u003c")),
        values=packed.text(),
    )


def _zone(report: Report) -> dict[str, Any]:
    """What the script shows times in: ms after UTC, and its name."""
    offset = report.start.utcoffset() or timedelta()
    return {"offset": offset / timedelta(milliseconds=1), "name": zone_text(report.start)}


def _asset(name: str) -> str:
    return (resources.files("tracer.analysis.pictures") / "web" / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _colours() -> str:
    """The containers' colours as custom properties, for light and for dark ground."""

    def properties(colours: tuple[str, ...], other: str) -> str:
        named = [f"--container-{number}:{colour}" for number, colour in enumerate(colours)]
        return ":root{" + ";".join([*named, f"--container-other:{other}"]) + "}"

    return properties(LIGHT, LIGHT_OTHER) + "@media (prefers-color-scheme:dark){" + properties(DARK, DARK_OTHER) + "}"


def _told_names(report: Report) -> dict[str, str]:
    """What each name is called, also with its node's: of bounded length, and no two alike."""
    containers = [one.container for one in report.activity]
    containers += [one.container for one in report.time_spent]
    containers += [victim.container for victim in report.victims]
    containers += [cost.container for cost in report.costs]
    containers += [cost.by for cost in report.costs if cost.by is not None]
    containers += [aggressor.container for victim in report.victims for aggressor in victim.aggressors]
    names = {name for one in containers for name in (one.name, name_of(one, report.nodes))}
    return naming.shown_names(names, _LONGEST_NAME)


def _sentence(text: str, told: Mapping[str, str]) -> str:
    """`text` with long names as they are called elsewhere, and figures that keep their unit at the end of a line."""
    for name in sorted((name for name in told if len(name) > _LONGEST_NAME), key=len, reverse=True):
        text = text.replace(name, told[name])
    return _UNIT.sub("\N{NO-BREAK SPACE}", _shown(text))


def _shown(text: str) -> str:
    return shown_text(text, _LONGEST_TEXT)
