# SPDX-License-Identifier: Apache-2.0
"""`tracer run`: trace this node."""

import inspect
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from tracer.cli.run_options import OnFull, Switch, parse_options, read_config
from tracer.cli.saying import say, say_next
from tracer.cli.stop_signals import StopSignals
from tracer.cli.tracing import trace

_RUN, _OUTPUT = "The run", "Files"
_MEASURED, _EACH_SECOND, _NAMES = "What is measured by the millisecond", "What is read each second", "Names"
_RECORDER, _APPLICATIONS = "Flight recorder", "Applications' own latencies"
_BOUNDS, _LOOKING = "What the tracer may take", "Looking at it while it runs"


def run(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory for the results.", rich_help_panel=_RUN)
    ] = Path("results"),
    duration: Annotated[
        str | None,
        typer.Option(
            "--duration",
            "-d",
            metavar="TIME",
            help="Stop after this time (10s, 5m); else on Ctrl-C.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|UID:GID",
            help="Turn into this user, to whom the results belong.",
            show_default="who calls it",
            rich_help_panel=_RUN,
        ),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Say at the end who slowed down whom.", rich_help_panel=_RUN)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say only what is wrong.", rich_help_panel=_RUN)] = False,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file with these options by the same names.", rich_help_panel=_RUN),
    ] = None,
    tick: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="Length of a tick, 0.5ms to 100ms, in whole microseconds.", rich_help_panel=_MEASURED
        ),
    ] = "1ms",
    window: Annotated[int, typer.Option(help="Ticks in a window.", rich_help_panel=_MEASURED)] = 60,
    ticks: Annotated[
        bool, typer.Option("--ticks", help="Write each tick too (the `ticks` table).", rich_help_panel=_MEASURED)
    ] = False,
    waits: Annotated[
        Switch,
        typer.Option(
            help="Follow how long tasks wait for a CPU, and who holds it (the `waits` table).",
            rich_help_panel=_MEASURED,
        ),
    ] = Switch.on,
    event: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SPEC",
            help="Fill the counter NAME (cycles, instructions, llc_misses) with SPEC.",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    ring_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Size of each CPU's ring buffer.",
            show_default="1MiB, less on many CPUs",
            rich_help_panel=_MEASURED,
        ),
    ] = None,
    memory_limit: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Bound on the tracer's memory: near it, `ticks` are left out, then `waits`, then windows are longer.",
            rich_help_panel=_BOUNDS,
        ),
    ] = "512MiB",
    cpu_limit: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Bound on its CPU time, of one core, beyond which the rings are drained less often; `none` for none.",
            show_default="10%, and 1% for every 8 CPUs",
            rich_help_panel=_BOUNDS,
        ),
    ] = None,
    resources_interval: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help="How often the files of each cgroup are read (the `resources` table).",
            rich_help_panel=_EACH_SECOND,
        ),
    ] = "1s",
    io: Annotated[
        bool,
        typer.Option("--io", help="Write I/O by device too (the `io` table), as often.", rich_help_panel=_EACH_SECOND),
    ] = False,
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Read each process's memory so often (`processes` table).",
            rich_help_panel=_EACH_SECOND,
        ),
    ] = None,
    processes_max_rss: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Leave the memory of larger processes alone: reading it makes them wait.",
            rich_help_panel=_EACH_SECOND,
        ),
    ] = "4GiB",
    regions: Annotated[
        bool,
        typer.Option(
            "--regions",
            help="With --processes: what their memory is mapped from (`regions` table).",
            rich_help_panel=_EACH_SECOND,
        ),
    ] = False,
    resctrl: Annotated[
        str,
        typer.Option(
            metavar="auto|off|PATH",
            help="LLC and memory bandwidth by resctrl: where it is mounted, not, or elsewhere.",
            rich_help_panel=_EACH_SECOND,
        ),
    ] = "auto",
    resctrl_mount: Annotated[
        bool,
        typer.Option(
            "--resctrl-mount",
            help="Mount resctrl if it is not, and unmount it at the end.",
            rich_help_panel=_EACH_SECOND,
        ),
    ] = False,
    nri: Annotated[
        str,
        typer.Option(
            metavar="auto|off|PATH",
            help="Container names by NRI: its usual socket, none, or another.",
            rich_help_panel=_NAMES,
        ),
    ] = "auto",
    containerd_state: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR", help="A further `state` directory of containerd with names.", rich_help_panel=_NAMES
        ),
    ] = None,
    node_name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What this node is called in all tables.",
            show_default="host name",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="ADDR",
            help="Serve metrics for Prometheus: 9464 (here only), HOST:PORT or [IPV6]:PORT.",
            rich_help_panel=_LOOKING,
        ),
    ] = None,
    socket: Annotated[
        str,
        typer.Option(
            metavar="auto|off|PATH",
            help="Where `tracer top` and `tracer mark` reach it: in /run/tracer, nowhere, or another socket.",
            rich_help_panel=_LOOKING,
        ),
    ] = "auto",
    ingest: Annotated[
        str | None,
        typer.Option(
            metavar="SOCKET",
            help="Take what applications measure: DogStatsD datagrams, and OpenMetrics at SOCKET.openmetrics.",
            rich_help_panel=_APPLICATIONS,
        ),
    ] = None,
    ingest_mode: Annotated[
        str,
        typer.Option("--ingest-mode", metavar="OCTAL", help="Mode of these sockets.", rich_help_panel=_APPLICATIONS),
    ] = "666",
    recorder: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Keep this much in memory (10s to 1h), and write it when a rule holds, or for `tracer mark`.",
            rich_help_panel=_RECORDER,
        ),
    ] = None,
    when: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="Such as 'wait(namespace=shop)>20% for 500ms'; can be given several times.",
            rich_help_panel=_RECORDER,
        ),
    ] = None,
    after: Annotated[
        str,
        typer.Option(metavar="TIME", help="How long is written after that.", rich_help_panel=_RECORDER),
    ] = "2m",
    when_every: Annotated[
        str,
        typer.Option("--when-every", metavar="TIME", help="A rule is heard once in it.", rich_help_panel=_RECORDER),
    ] = "10m",
    when_most: Annotated[
        int,
        typer.Option("--when-most", help="So often in an hour all rules together are.", rich_help_panel=_RECORDER),
    ] = 6,
    identifier: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Value of the identifier= partition.",
            show_default="node name",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    rotate: Annotated[
        str,
        typer.Option(metavar="TIME", help="Close the files and begin new ones each so often.", rich_help_panel=_OUTPUT),
    ] = "90s",
    keep: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Bound on the closed files' size; `none` for no bound.", rich_help_panel=_OUTPUT
        ),
    ] = "1GiB",
    on_full: Annotated[
        OnFull, typer.Option(help="What to do when they reach it.", rich_help_panel=_OUTPUT)
    ] = OnFull.delete_oldest,
    mode: Annotated[
        str,
        typer.Option(
            metavar="OCTAL",
            help="Mode of the files; their directories can be searched by who may read them.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "640",
    upload: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Upload each hour's results too: s3://, gs://, az://, file:// (needs the extra `upload`).",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    upload_rate: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="So much of the network in a second, at most.", rich_help_panel=_OUTPUT),
    ] = None,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync", help="Have the journal on disk at each write: power loss takes no more.", rich_help_panel=_OUTPUT
        ),
    ] = False,
) -> None:
    """Trace this node: every millisecond of every CPU to its cgroup, 60 ticks to a window, as Parquet files."""
    given: dict[str, Any] = {
        "output": output,
        "duration": duration,
        "user": user,
        "tick": tick,
        "window": window,
        "rotate": rotate,
        "keep": keep,
        "on-full": on_full.value,
        "mode": mode,
        "sync": sync,
        "upload": upload,
        "upload-rate": upload_rate,
        "ticks": ticks,
        "waits": waits.value,
        "event": event,
        "identifier": identifier,
        "node-name": node_name,
        "metrics": metrics,
        "socket": socket,
        "ingest": ingest,
        "ingest-mode": ingest_mode,
        "recorder": recorder,
        "when": when,
        "after": after,
        "when-every": when_every,
        "when-most": when_most,
        "ring-size": ring_size,
        "memory-limit": memory_limit,
        "cpu-limit": cpu_limit,
        "nri": nri,
        "containerd-state": containerd_state,
        "resctrl": resctrl,
        "resctrl-mount": resctrl_mount,
        "resources-interval": resources_interval,
        "io": io,
        "processes": processes,
        "processes-max-rss": processes_max_rss,
        "regions": regions,
        "report": report,
        "quiet": quiet,
    }
    if config is not None:
        on_command_line = {
            name.replace("_", "-")
            for name in context.params
            if (source := context.get_parameter_source(name)) is not None and source.name == "COMMANDLINE"
        }
        for name, value in read_config(config, given).items():
            if name not in on_command_line:
                given[name] = value
    with StopSignals() as signals:
        options = parse_options(given)
        with ExitStack() as on_failure:
            signals.give_back(on_failure.close)
            final = trace(options, signals, on_failure, quiet=given["quiet"])
    if not final.recorded:
        return
    if not given["report"]:
        say_next("report", given["output"], quiet=given["quiet"])
        return
    from tracer.cli.closing_report import competes, print_closing_report

    found = print_closing_report(given["output"], final.recorded[-1])
    if competes(found):
        say_next("report", "--html", "report.html", given["output"], quiet=given["quiet"])
    elif found.activity:
        say("nobody here slows down another now; what it looks like where somebody does:", quiet=given["quiet"])
        say_next("demo", as_root=True, quiet=given["quiet"])


def default_options() -> dict[str, Any]:
    """What `run` does where nothing else is asked for, for `parse_options`."""
    defaults = inspect.signature(run).parameters
    return {name.replace("_", "-"): parameter.default for name, parameter in defaults.items()}
