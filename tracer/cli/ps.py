# SPDX-License-Identifier: Apache-2.0
"""`tracer ps`: every cgroup now, and who it is."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import msgspec
import typer

from tracer.cli.choosing import Containers
from tracer.cli.guides import guides
from tracer.cli.json_output import print_answer
from tracer.cli.layout import Column
from tracer.cli.printing import TextOutput
from tracer.containers.census import CountedCgroup, take_census
from tracer.containers.cgroupfs import find_cgroup2_mount
from tracer.containers.runtime_state import RuntimeState, state_directory
from tracer.naming import Named, Selector, name_of

_NAMED = ("container", "sandbox", "pod")


class Cgroup(Named, frozen=True, kw_only=True):
    """A cgroup: who it is, by its path alone or by its runtime too, its processes, and the age of the oldest.

    `subpath` is its place below its container's own cgroup. `processes` and `age_seconds` hold for all below it too,
    None where they cannot be read, or there is none.
    """

    name_source: Literal["path", "runtime"]
    subpath: str
    processes: int | None
    age_seconds: float | None


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints: every cgroup, each before those below it."""

    command: Literal["ps"] = "ps"
    version: int = 1
    cgroups: list[Cgroup]


def ps(
    flat: Annotated[
        bool, typer.Option("--flat", help="Print a list with whole paths, not a tree; one line a cgroup.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing shortened.")] = False,
    container: Containers = None,
    containerd_state: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A further `state` directory of containerd with names."),
    ] = None,
) -> None:
    """Show every cgroup that exists now: who it is, how many processes it has, and for how long.

    SOURCE says where the name is from: the cgroup's path, or also the state
    that the container's runtime keeps on disk, which takes root to read. PROCS
    and AGE (of the oldest process) hold for the cgroup and all below it. In the
    tree, names too long for the terminal are cut in their middle; --flat and
    --json show them and the paths whole.
    """
    state = RuntimeState(containerd_states=map(state_directory, containerd_state or []))
    census = take_census(find_cgroup2_mount(), state)
    selector = Selector(container or ()).among(cgroup.who for cgroup in census)
    chosen = [cgroup for cgroup in census if selector.takes(cgroup.who)]
    if as_json:
        print_answer(answer(chosen))
    else:
        print_table(chosen if flat else _with_those_above(census, chosen), flat=flat)


def short_name(cgroup: CountedCgroup) -> str:
    """What to call a cgroup below its parent: as everywhere, but of a path the last component."""
    name = name_of(cgroup.who)
    if cgroup.identity.subpath or name.startswith("/") or cgroup.identity.kind == "unit":
        return cgroup.path.rpartition("/")[2] or "/"
    return name


def age_text(seconds: float | None) -> str:
    """An age in its largest unit of which there are at least two: `95s`, `3m`, `47h`, `400d`; `-` for None."""
    if seconds is None:
        return "-"
    for unit, unit_seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * unit_seconds:
            return f"{int(seconds // unit_seconds)}{unit}"
    return f"{int(seconds)}s"


def answer(census: Iterable[CountedCgroup]) -> Census:
    """What `--json` prints."""
    return Census(
        cgroups=[
            Cgroup(
                **msgspec.structs.asdict(cgroup.who),
                name=name_of(cgroup.who),
                name_source=cgroup.name_source,
                subpath=cgroup.identity.subpath,
                processes=cgroup.processes,
                age_seconds=cgroup.age_seconds,
            )
            for cgroup in census
        ]
    )


def print_table(census: Sequence[CountedCgroup], *, flat: bool) -> None:
    """Print a census as a tree, its names cut to the terminal, or as a list of names and paths; one line a cgroup."""
    output = TextOutput()
    drawn = guides([cgroup.depth for cgroup in census], width=len("├─ "), ascii_only=output.ascii_only)
    columns = [
        Column("CGROUP", "name"),
        Column("KIND", "word"),
        Column("SOURCE", "word"),
        Column("PROCS"),
        Column("AGE"),
    ]
    rows = [
        [
            cgroup.path if flat else guide + short_name(cgroup),
            cgroup.identity.kind,
            cgroup.name_source,
            "-" if cgroup.processes is None else str(cgroup.processes),
            age_text(cgroup.age_seconds),
            *([short_name(cgroup) if _has_name(cgroup) else "-"] if flat else []),
        ]
        for cgroup, (guide, _further) in zip(census, drawn, strict=True)
    ]
    if flat:
        columns.append(Column("NAME", "text"))
    output.print_table(columns, rows, guides=[further for _first, further in drawn], unbroken=flat)


def _with_those_above(census: Iterable[CountedCgroup], chosen: Iterable[CountedCgroup]) -> list[CountedCgroup]:
    """Those that were chosen, and the cgroups that they are in, without which there is no tree."""
    places = {cgroup.path for cgroup in chosen}
    for path in list(places):
        while path != "/" and (path := path.rpartition("/")[0] or "/") not in places:
            places.add(path)
    return [cgroup for cgroup in census if cgroup.path in places]


def _has_name(cgroup: CountedCgroup) -> bool:
    """Whether it has one that is not the end of its path."""
    return cgroup.identity.kind in _NAMED and not cgroup.identity.subpath
