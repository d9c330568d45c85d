# SPDX-License-Identifier: Apache-2.0
"""`tracer run`: trace this node."""

import os
import sys
import tomllib
from contextlib import ExitStack, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracer.cli.leftovers import restore_leftovers
from tracer.cli.recover import recovery_lines
from tracer.cli.stop_signals import StopSignals
from tracer.containers.nri import DEFAULT_SOCKET
from tracer.errors import TracerError, UsageError

if TYPE_CHECKING:
    from tracer.kernel.counter_plan import CounterPlan
    from tracer.store.manifest import Manifest

_DEFAULT_OUTPUT = Path("results")


class Switch(StrEnum):
    """Whether something is done."""

    on = "on"
    off = "off"


class OnFull(StrEnum):
    """What to do when the results reach --keep, or the disk is full."""

    delete_oldest = "delete-oldest"
    stop = "stop"


def run(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Directory for the results.")] = _DEFAULT_OUTPUT,
    duration: Annotated[str | None, typer.Option(help="Stop after this time (10s, 5m); else on Ctrl-C.")] = None,
    tick: Annotated[str, typer.Option(help="Length of a tick, 0.5ms to 100ms, in whole microseconds.")] = "1ms",
    window: Annotated[int, typer.Option(help="Ticks in a window.")] = 60,
    rotate: Annotated[str, typer.Option(help="Close the files and begin new ones each so often.")] = "90s",
    keep: Annotated[str, typer.Option(help="Bound on the closed files' size; `none` for no bound.")] = "1GiB",
    on_full: Annotated[OnFull, typer.Option(help="What to do when they reach it.")] = OnFull.delete_oldest,
    sync: Annotated[
        bool, typer.Option("--sync", help="Have the journal on disk at each write, so that power loss takes no more.")
    ] = False,
    ticks: Annotated[bool, typer.Option("--ticks", help="Write each tick too (the `ticks` table).")] = False,
    waits: Annotated[
        Switch, typer.Option(help="Follow how long tasks wait for a CPU, and who holds it (the `waits` table).")
    ] = Switch.on,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SPEC", help="Fill the counter NAME (cycles, instructions, llc_misses) with SPEC."),
    ] = None,
    identifier: Annotated[
        str | None, typer.Option(help="Value of the identifier= partition.", show_default="node name")
    ] = None,
    ring_size: Annotated[
        str | None, typer.Option(help="Size of each CPU's ring buffer.", show_default="1MiB, less on many CPUs")
    ] = None,
    nri: Annotated[
        str, typer.Option(metavar="auto|off|PATH", help="Container names by NRI: its usual socket, none, or another.")
    ] = "auto",
    containerd_state: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A further `state` directory of containerd with names."),
    ] = None,
    resctrl: Annotated[
        str,
        typer.Option(
            metavar="auto|off|PATH", help="LLC and memory bandwidth by resctrl: where it is mounted, not, or elsewhere."
        ),
    ] = "auto",
    resctrl_mount: Annotated[
        bool, typer.Option("--resctrl-mount", help="Mount resctrl if it is not, and unmount it at the end.")
    ] = False,
    resources_interval: Annotated[
        str, typer.Option(help="How often the files of each cgroup are read (the `resources` table).")
    ] = "1s",
    io: Annotated[bool, typer.Option("--io", help="Write I/O by device too (the `io` table), as often.")] = False,
    processes: Annotated[
        str | None, typer.Option(metavar="INTERVAL", help="Read each process's memory so often (`processes` table).")
    ] = None,
    processes_max_rss: Annotated[
        str, typer.Option(help="Leave the memory of larger processes alone: reading it makes them wait.")
    ] = "4GiB",
    regions: Annotated[
        bool, typer.Option("--regions", help="With --processes: what their memory is mapped from (`regions` table).")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with these options by the same names.")] = None,
) -> None:
    """Trace this node: every millisecond of every CPU to its cgroup, 60 ticks to a window, as Parquet files."""
    given: dict[str, Any] = {
        "output": output,
        "duration": duration,
        "tick": tick,
        "window": window,
        "rotate": rotate,
        "keep": keep,
        "on-full": on_full.value,
        "sync": sync,
        "ticks": ticks,
        "waits": waits.value,
        "event": event or [],
        "identifier": identifier,
        "ring-size": ring_size,
        "nri": nri,
        "containerd-state": containerd_state or [],
        "resctrl": resctrl,
        "resctrl-mount": resctrl_mount,
        "resources-interval": resources_interval,
        "io": io,
        "processes": processes,
        "processes-max-rss": processes_max_rss,
        "regions": regions,
    }
    if config is not None:
        on_command_line = {
            name.replace("_", "-")
            for name in context.params
            if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        }
        for name, value in _read_config(config, given).items():
            if name not in on_command_line:
                given[name] = value
    with StopSignals() as signals:
        _run(given, signals)


def _read_config(path: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Options of a TOML file. Raises UsageError for one that cannot be read, or has a name or type of its own."""
    try:
        values = tomllib.loads(path.read_text())
    except OSError as error:
        raise UsageError(f"cannot read --config {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"--config {str(path)!r} is not TOML: {error}") from error
    if unknown := sorted(values.keys() - known.keys()):
        raise UsageError(f"--config {str(path)!r}: no option {unknown[0]!r}; there are {', '.join(known)}")
    for name, value in values.items():
        wanted: tuple[type, str] = {
            "window": (int, "a number"),
            "ticks": (bool, "true or false"),
            "resctrl-mount": (bool, "true or false"),
            "io": (bool, "true or false"),
            "sync": (bool, "true or false"),
            "regions": (bool, "true or false"),
            "event": (list, "a list of strings"),
            "containerd-state": (list, "a list of strings"),
        }.get(name, (str, "a string"))
        texts_only = not isinstance(value, list) or all(isinstance(item, str) for item in value)
        if type(value) is not wanted[0] or not texts_only:
            raise UsageError(f"--config {str(path)!r}: {name} must be {wanted[1]}")
    values["output"] = Path(values.get("output", known["output"]))
    return values


def _run(given: dict[str, Any], signals: StopSignals) -> None:
    """Checks, starts, waits, ends."""
    from tracer.containers.runtime_state import state_directory
    from tracer.kernel.event_specs import parse_events
    from tracer.kernel.loader import ProgramLoadError
    from tracer.pipeline.options import RunOptions
    from tracer.pipeline.stage import StuckError
    from tracer.pipeline.starting import start_run
    from tracer.preflight.doctor import explain_load_failure, require_runnable
    from tracer.units import parse_bytes, parse_duration_ns

    if given["on-full"] not in list(OnFull):
        raise UsageError(f"on-full must be one of {', '.join(OnFull)}, not {given['on-full']!r}")
    if given["waits"] not in list(Switch):
        raise UsageError(f"waits must be on or off, not {given['waits']!r}")
    options = RunOptions(
        output=given["output"],
        duration_ns=None if given["duration"] is None else parse_duration_ns(given["duration"]),
        tick_ns=parse_duration_ns(given["tick"]),
        window_ticks=given["window"],
        rotate_ns=parse_duration_ns(given["rotate"]),
        keep_bytes=None if given["keep"] == "none" else parse_bytes(given["keep"]),
        on_full=given["on-full"],
        sync=given["sync"],
        ticks=given["ticks"],
        waits=given["waits"] == Switch.on,
        events=parse_events(given["event"]),
        identifier=os.uname().nodename if given["identifier"] is None else given["identifier"],
        ring_bytes=None if given["ring-size"] is None else parse_bytes(given["ring-size"]),
        nri_socket=_nri_socket(given["nri"]),
        containerd_states=tuple(map(state_directory, given["containerd-state"])),
        resctrl=given["resctrl"],
        resctrl_mount=given["resctrl-mount"],
        resources_interval_ns=parse_duration_ns(given["resources-interval"]),
        io=given["io"],
        processes_interval_ns=None if given["processes"] is None else parse_duration_ns(given["processes"]),
        processes_max_rss_bytes=parse_bytes(given["processes-max-rss"]),
        regions=given["regions"],
    )
    options.check()
    require_runnable(options.tick_ns)
    restore_leftovers()
    with ExitStack() as on_failure:
        signals.give_back(on_failure.close)
        try:
            started = start_run(options, signals, on_failure)
        except ProgramLoadError as error:
            raise explain_load_failure(error) from error
        run, plan = started.run, started.plan
        for line in recovery_lines(started.recovery):
            _say(line)
        if missing := _missing_counters(plan):
            _say(f"warning: not counted: {missing}")
        _say(
            f"tracing {len(started.source.online)} CPUs in ticks of {options.tick_ns / 1e6:g} ms, "
            f"windows of {options.window_ticks}; results in {started.output.path}"
        )
        run.wait()
        try:
            final = run.finish()
        except StuckError as error:
            # What is stuck may still use all that would be given back here. The kernel takes it.
            _say(str(error))
            os._exit(error.exit_code)
        _say_totals(final)
        if unaccounted := final.totals.records_unaccounted:
            raise TracerError(f"{unaccounted:,} records are in no row and in no count, which is a defect of the tracer")


def _nri_socket(text: str) -> Path | None:
    """Raises UsageError for what is neither `auto`, `off` nor an absolute path."""
    if text == "off":
        return None
    if text == "auto":
        return DEFAULT_SOCKET
    if not text.startswith("/"):
        raise UsageError(f"--nri must be auto, off or the absolute path of a socket, not {text!r}")
    return Path(text)


def _missing_counters(plan: "CounterPlan") -> str:
    """The counters that stay null, or are null on some CPUs, those with the same reason together."""
    from tracer.kernel.counter_plan import alike

    by_reason: dict[str, list[str]] = {}
    for index, (spec, reason) in enumerate(zip(plan.specs, plan.reasons, strict=True)):
        if reason is not None:
            by_reason.setdefault(reason, []).append(spec.column)
            continue
        for cpus, of_cpus in alike(plan.cpus, index):
            if (why := of_cpus.reasons[index]) is not None:
                by_reason.setdefault(why, []).append(f"{spec.column} on CPUs {cpus}")
    return "; ".join(f"{', '.join(columns)}: {reason}" for reason, columns in by_reason.items())


def _say(text: str) -> None:
    # The terminal may be gone; the run goes on.
    with suppress(OSError):
        print(f"tracer: {text}", file=sys.stderr, flush=True)


def _say_totals(manifest: "Manifest") -> None:
    totals = manifest.totals
    assert manifest.end is not None
    seconds = (manifest.end.utc_ns - manifest.start.utc_ns) / 1e9
    written = ", ".join(f"{rows:,} rows of {table}" for table, rows in sorted(totals.rows.items()))
    files, size = sum(totals.files.values()), sum(totals.bytes.values())
    _say(f"{seconds:g} s traced: {written or 'no rows'} in {files} files, {size / 1e6:.1f} MB")
    if not totals.records_lost:
        _say(f"{totals.records:,} records, none lost")
        return
    causes: dict[str, int] = {}
    for of_cpu in totals.lost_by_cpu.values():
        for cause, count in of_cpu.items():
            causes[cause] = causes.get(cause, 0) + count
    listed = ", ".join(f"{cause} {count:,}" for cause, count in causes.items())
    _say(f"{totals.records:,} records, {totals.records_lost:,} LOST ({listed}); by CPU in the manifest")
