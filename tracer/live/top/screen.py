# SPDX-License-Identifier: Apache-2.0
"""The screen of `tracer top` as lines of styled text, of any size. It knows no terminal."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len as cells

from tracer.live.top.history import SECONDS, History
from tracer.live.top.rates import NodeRates, Rates
from tracer.live.top.view import View
from tracer.naming import cut, shown_names
from tracer.printable import printable

Span = tuple[str, str]
Line = list[Span]

_BARS: Final = "▁▂▃▄▅▆▇█"
_LEAST_NAME, _MOST_NAME = 12, 60
_LEAST_NODE = 8
_LEAST_BY, _MOST_BY = 10, 44
_LEAST_COURSE, _MOST_COURSE = 6, 60
_LEAST_ACTIVE = 0.05
_HELP: Final = (
    "A line is a container or systemd unit that ran or waited in the last second.",
    "",
    "CPUS     CPUs it had on average",
    "RAN      of the time in which its tasks ran or were ready to: they ran, %",
    "LOST     they waited behind others, %    BEHIND   behind whom most",
    "SELF     they waited behind each other, %",
    "THR STL  they were throttled; the hypervisor had the CPU, %",
    "CPI      cycles per instruction",
    "MPKI     LLC misses per 1000 instructions",
    "MB/S     came from memory",
    "MINUTE   LOST by the second, the newest on the right; full: 50 % or more",
    "",
    "Up Down PgUp PgDn Home End  choose a line      Enter  its own page",
    "/      filter as you type                      Esc    back, no filter",
    "l p c i t m n  sort by LOST CPUS CPI MPKI MB/S memory name; < > the next one",
    "I      the least first      Space  pause",
    "w      write the last minutes as a recording   q      quit",
)


class _Column(NamedTuple):
    title: str
    field: str
    width: int
    text: Callable[[Rates], str]


def _percent(value: float | None) -> str:
    if value is None:
        return "-"
    percent = 100 * value
    return f"{percent:.1f}" if 0.05 <= percent < 9.95 else f"{percent:.0f}"


def _figure(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "-"
    return f"{value:.{digits}f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


_COLUMNS: Final = (
    _Column("CPUS", "cpus", 5, lambda one: _figure(one.cpus)),
    _Column("RAN", "ran", 4, lambda one: _percent(one.ran)),
    _Column("LOST", "lost", 5, lambda one: _percent(one.lost)),
    _Column("SELF", "self_wait", 5, lambda one: _percent(one.self_wait)),
    _Column("THR", "throttled", 4, lambda one: _percent(one.throttled)),
    _Column("STL", "stolen", 4, lambda one: _percent(one.stolen)),
    _Column("CPI", "cpi", 5, lambda one: _figure(one.cpi)),
    _Column("MPKI", "mpki", 5, lambda one: _figure(one.mpki)),
    _Column("MB/S", "traffic", 5, lambda one: _figure(None if one.traffic is None else one.traffic / 1e6, 1)),
)


def paint(history: History, view: View, width: int, height: int) -> list[Line]:
    """Exactly `height` lines of at most `width` cells."""
    now = history.now
    lines = [_first_line(now, view, width)]
    if now is None:
        lines.append([("waiting for the first second ...", "dim")])
    elif view.is_help:
        lines += [[(cut_text(text, width), "")] for text in _HELP]
    elif view.page is not None:
        lines += _page(history, view, now, width)
    else:
        lines += _list(history, view, now, width, height - 2)
    lines = lines[: height - 1]
    lines += [[] for _line in range(height - 1 - len(lines))]
    return [_within(line, width) for line in (*lines, _last_line(view, width))][-height:]


def plain(history: History, view: View, width: int, rows: int | None = None) -> list[str]:
    """The list as text, for `--once`."""
    now = history.now
    if now is None:
        return ["no second has been traced yet"]
    height = len(view.rows(now.containers)) + 1 if rows is None else rows + 1
    lines = [_first_line(now, view, width), *_list(history, view, now, width, height, with_course=False)]
    return ["".join(text for text, _style in line).rstrip() for line in lines]


def cut_text(text: str, width: int) -> str:
    """Of no more than so many cells."""
    return text if cells(text) <= width else text[: max(0, width)]


def course(values: Sequence[float | None], width: int, full: float) -> str:
    """The last minute as bars; where there is no room for all seconds, each is the highest of some. None is no bar."""
    seconds = -(-SECONDS // width) if width else SECONDS
    padded = [None] * (-len(values) % seconds) + list(values)
    groups = [padded[first : first + seconds] for first in range(0, len(padded), seconds)]
    shown = [max((value for value in group if value is not None), default=None) for group in groups][-width:]
    bars = "".join(
        " " if value is None else _BARS[min(len(_BARS) - 1, int(value / full * len(_BARS)))] for value in shown
    )
    return bars.rjust(width)


def _first_line(now: NodeRates | None, view: View, width: int) -> Line:
    if now is None:
        return [("tracer top", "title")]
    when = "" if now.time is None else f"{now.time:%Y-%m-%d %H:%M:%S} UTC"
    cpus = sum(one.cpus for one in now.containers)
    lost = f"{now.records_lost:,} records LOST" if now.records_lost else "none lost"
    text = f"  {when}  {len(now.containers)} ran or waited, {cpus:.2f} CPUs; {lost}"
    state = " PAUSED" if view.is_paused else ""
    name = cut(_safe(now.node_name), max(_LEAST_NODE, width - cells(text) - len(state)))
    style = "bad" if now.records_lost else "title"
    return [(cut_text(name + text, width - len(state)), style), (state, "bad")]


def _last_line(view: View, width: int) -> Line:
    if view.is_typing:
        return [(cut_text(f"Filter: {view.filter}_", width), "title")]
    if view.message:
        return [(cut_text(view.message, width), "title")]
    keys = (
        "Esc back  Space pause  w write  q quit"
        if view.page is not None or view.is_help
        else ("Enter page  / filter  < > sort  I invert  Space pause  w write  h help  q quit")
    )
    if view.filter:
        keys = f"Filter: {view.filter}  (Esc: none)  {keys}"
    return [(cut_text(keys, width), "dim")]


def _list(
    history: History, view: View, now: NodeRates, width: int, height: int, *, with_course: bool = True
) -> list[Line]:
    rows = view.rows(now.containers)
    # What is not measured of anybody, as counters without a PMU, leaves its room to the names.
    columns = [column for column in _COLUMNS if any(getattr(one, column.field) is not None for one in now.containers)]
    figures = sum(column.width for column in columns)
    room = width - figures
    of_course = min(_MOST_COURSE, max(_LEAST_COURSE, room // 5)) if with_course else 0
    of_by = min(_MOST_BY, max(_LEAST_BY, (room - of_course) * 3 // 7))
    of_name = max(_LEAST_NAME, min(_MOST_NAME, room - of_course - of_by - 2))
    head: Line = [(_left("CONTAINER", of_name), "sort" if view.sort == "name" else "head")]
    for column in columns:
        # By how much was lost: nearly all of nearly nothing is of no interest.
        is_sorted = column.field == view.sort or (column.field == "lost" and view.sort == "lost_tasks")
        mark = "sort" if is_sorted else "head"
        head.append((column.title.rjust(column.width), mark))
    title = "LAST MINUTE" if of_course >= len("LAST MINUTE") else "MINUTE"
    head.append((f" {_left('BEHIND', of_by)} {title.rjust(of_course) if with_course else ''}", "head"))
    shown = max(1, height - 1)
    place = view.place(rows)
    first = 0 if place is None else max(0, min(place - shown // 2, len(rows) - shown))
    courses = history.courses("lost")
    names = shown_names([one.name for one in rows], of_name)
    holders = shown_names([one.by for one in rows if one.by is not None], of_by)
    lines = [head]
    for one in rows[first : first + shown]:
        style = "selected" if one.name == view.selected else ""
        line: Line = [(_left(names[one.name], of_name), style)]
        for column in columns:
            is_bad = column.field == "lost" and _is_bad(one)
            line.append((column.text(one).rjust(column.width), style or ("bad" if is_bad else "")))
        by = "" if one.by is None or not one.lost else holders[one.by]
        line.append((f" {_left(by, of_by)} ", style))
        if with_course:
            line.append((course(courses.get(one.name, []), of_course, 0.5), style or "course"))
        lines.append(_within(line, width))
    if not rows:
        lines.append([("nobody is called so" if view.filter else "nobody ran or waited", "dim")])
    return [_within(head, width), *lines[1:]]


def _page(history: History, view: View, now: NodeRates, width: int) -> Iterable[Line]:
    """Of one container."""
    one = next((one for one in now.containers if one.name == view.page), None)
    yield [(cut_text(_safe(view.page or ""), width), "head")]
    if one is None:
        yield [("it neither ran nor waited in the last second", "dim")]
    else:
        memory = "-" if one.memory_bytes is None else f"{one.memory_bytes / 2**20:,.0f} MiB"
        yield [(cut_text(f"{one.container.cgroup_kind}; {_figure(one.cpus)} CPUs, memory {memory}", width), "")]
        yield []
        yield [("Of the time in which its tasks ran or were ready to:", "")]
        for text, value in (
            ("ran", one.ran), ("lost behind others", one.lost), ("behind each other", one.self_wait),
            ("throttled", one.throttled), ("ready while its CPU was idle", one.idle_wait), ("stolen", one.stolen),
        ):  # fmt: skip
            yield [
                (
                    cut_text(f"  {text:<30}{_percent(value):>6} %", width),
                    "bad" if text[0] == "l" and (value or 0) >= 0.1 else "",
                )
            ]
        if one.cpi is not None or one.mpki is not None:
            traffic = "-" if one.traffic is None else f"{one.traffic / 1e6:,.1f} MB/s"
            text = f"CPI {_figure(one.cpi)}, {_figure(one.mpki)} LLC misses per 1000 instructions, {traffic}"
            yield [(cut_text(text, width), "")]
        yield []
        yield [("Behind whom it waited:", "")]
        for holder in one.holders[:6]:
            name = cut(_safe(holder.by.name), max(1, width - 11))
            yield [(cut_text(f"  {_percent(holder.share):>5} %  {name}", width), "")]
        if not one.holders:
            yield [("  nobody", "dim")]
    yield []
    yield [("The last minute, by the second:", "")]
    room = min(_MOST_COURSE, width - 8)
    name = view.page or ""
    yield [
        ("  lost  ", ""),
        (course(history.course(name, "lost"), room, 0.5), "course"),
        ("  full: 50 % or more"[: max(0, width - 8 - room)], "dim"),
    ]
    cpus = history.course(name, "cpus")
    full = max([0.01, *(value for value in cpus if value is not None)])
    yield [
        ("  CPUs  ", ""),
        (course(cpus, room, full), "course"),
        (f"  full: {full:.2f}"[: max(0, width - 8 - room)], "dim"),
    ]


def _is_bad(one: Rates) -> bool:
    """It lost a tenth of its time, and is no one that hardly did anything."""
    return one.lost is not None and one.lost >= 0.1 and one.cpus / max(one.ran or 1.0, 1e-9) >= _LEAST_ACTIVE


def _left(text: str, width: int) -> str:
    return text + " " * max(0, width - cells(text))


def _within(line: Line, width: int) -> Line:
    """What is beyond the width is cut."""
    kept: Line = []
    for text, style in line:
        text = cut_text(text, width)
        kept.append((text, style))
        width -= cells(text)
    return kept


def _safe(text: str) -> str:
    return printable(text.encode("utf-8", "backslashreplace"))
