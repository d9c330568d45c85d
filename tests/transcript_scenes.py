# SPDX-License-Identifier: Apache-2.0
"""What `test_transcripts.py` has commands print: recordings whose making is planned, and findings that are made up."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from planted_recording import START_NS, container, frame, windows_of, write_recording
from planted_waits import MS, SELF, THROTTLED, Load, tables_of
from typer.main import get_group

from tracer.analysis.comparison.compare import compare
from tracer.analysis.recording import open_recording
from tracer.analysis.report import report
from tracer.cli.comparison_text import print_comparison
from tracer.cli.doctor import print_checks
from tracer.cli.help_text import help_text
from tracer.cli.main import app
from tracer.cli.printing import TextOutput
from tracer.cli.ps import print_table
from tracer.cli.report_text import print_report
from tracer.cli.verify_text import print_outcome
from tracer.containers.census import CountedCgroup
from tracer.containers.identity import identify
from tracer.experiment.outcome import Effect, Interval, Outcome, Side
from tracer.preflight.checks import Check
from tracer.simulate import simulate
from tracer.store.schemas import TABLES

LONG_NAME = "checkout-service-7d9f8c6b5d-x2x7q/application-server"
_POD = "/kubepods.slice/kubepods-pod8f0d4b7e_6f3c_4c86_9d53_0e5d3a6f1c11.slice"
_SCOPE = f"{_POD}/cri-containerd-{'0123456789abcdef' * 4}.scope"
_SPENT = ("CONTAINER OR UNIT", "LOST", "RAN", "RUNQ", "SELF", "THROTTLED", "IDLE", "STEAL", "CAUSE")
_COSTS = ("VICTIM", "LOST", "OF ITS TIME", "AGGRESSOR", "IN")
_LOSSES = ("AGGRESSOR", "LOST", "CI 95 %", "OF ITS LOSS", "SURE", "WHEN")
_ACTIVITY = ("CONTAINER OR UNIT", "OF NODE", "CPI", "MPKI", "WAITED, WAS THROTTLED")
_CHANGES = ("A", "B", "CHANGE", "95 % INTERVAL", "EFFECT")
_UNCHANGED = ("WORKLOAD", "CORES A", "CORES B", "MAY HAVE CHANGED BY")
_TREE = ("CGROUP", "KIND", "SOURCE", "PROCS", "AGE")
# As others in this place are, in one that is too narrow for them.
SHORT_TITLES = {
    "CONTAINER OR UNIT": "CONTAINER",
    "THROTTLED": "THROT",
    "OF ITS TIME": "SHARE",
    "OF ITS LOSS": "SHARE",
    "95 % INTERVAL": "95 % CI",
}


class Scene(NamedTuple):
    """What prints to standard output; the titles that its tables have, and names that stand in it."""

    show: Callable[[], None]
    titles: tuple[str, ...]
    names: tuple[str, ...]


def make_scenes(directory: Path) -> dict[str, Scene]:
    """By name; what is reported on is recorded below `directory`."""
    planted = _write_planted(directory)
    simulated = ("shop/web-1/app", "shop/db-1/postgres", "jobs/batch-7/etl")
    outcome = ("PAUSED", "ELSE", "DIFFERENCE", "CI 97.5 %", "OF ALL")
    return {
        "report-caches": Scene(_report(_simulated(directory, 3)), (*_COSTS, *_SPENT, *_LOSSES), simulated),
        "report-waits": Scene(_report(directory / "waits"), (*_COSTS, *_SPENT), planted),
        "report-pressure": Scene(_report(directory / "pressure"), _ACTIVITY, planted),
        "compare": Scene(_comparison(directory), (*_CHANGES, *_UNCHANGED), ()),
        "ps": Scene(lambda: print_table(_CENSUS, flat=False), _TREE, ("cron.service",)),
        "ps-flat": Scene(lambda: print_table(_CENSUS, flat=True), (*_TREE, "NAME"), (_SCOPE, "shop/web-1/app")),
        "doctor": Scene(lambda: print_checks(_CHECKS), (), ("perf-event-paranoid", "event-cycles")),
        "help": Scene(_help, (), ("--resources-interval TIME", "--on-full delete-oldest|stop")),
        "verify": Scene(lambda: print_outcome(_OUTCOME, as_json=False), outcome, ("web-1/app", "batch-7/etl")),
    }


def _report(recording: Path) -> Callable[[], None]:
    found = report(open_recording([recording]))
    return lambda: print_report(found, TextOutput())


def _help() -> None:
    print(help_text(get_group(app).commands["run"], "tracer run"))


def _comparison(directory: Path) -> Callable[[], None]:
    before, after = _simulated(directory, 4), _simulated(directory, 5)
    found = compare(open_recording([before]), open_recording([after]), [])
    sides = {
        side: msgspec.structs.replace(getattr(found, side), directory=f"results-{side}") for side in ("before", "after")
    }
    found = msgspec.structs.replace(found, **sides)
    return lambda: print_comparison(found, TextOutput(), everything=False)


def _simulated(directory: Path, seed: int) -> Path:
    output = directory / str(seed)
    simulate("cache-thrash", seed=seed, duration_ns=20 * 10**9, output=output, containers=6)
    return output


def _write_planted(directory: Path) -> tuple[str, ...]:
    """Two recordings without counters, the second one without waits; the names in them."""
    pod, _, name = LONG_NAME.partition("/")
    web, hog, etl = container(1, name, pod), container(2, "burst", "hog"), container(3, "run", "batch-7")
    loads = [
        Load(web, range(500), 9 * MS, {2: 9 * MS, 3: 2 * MS, SELF: 3 * MS}, stolen=3 * MS),
        Load(hog, range(500), 40 * MS, {1: 9 * MS}, stolen=None),
        Load(etl, range(500), 15 * MS, {2: 4 * MS, THROTTLED: 12 * MS}),
    ]
    write_recording(directory / "waits", **tables_of(loads))
    windows = [windows_of(load.who, load.windows, cpu_time_ns=load.ran) for load in loads]
    pressure = [
        frame(
            TABLES["resources"],
            31,
            {
                "node_name": "node-1",
                **load.who,
                "time": [START_NS + second * 10**9 for second in range(31)],
                "cpu_pressure_some_total_usec": [second * waited_usec for second in range(31)],
                "cpu_nr_periods": [second * 10 for second in range(31)],
                "cpu_nr_throttled": [second * throttled for second in range(31)],
            },
        )
        for load, waited_usec, throttled in zip(loads, (300_000, 20_000, 50_000), (0, 0, 3), strict=True)
    ]
    write_recording(directory / "pressure", windows=windows, resources=pressure)
    return f"shop/{LONG_NAME}", "shop/hog/burst", "shop/batch-7/run"


def _counted(path: str, processes: int, age_seconds: float, **names: str) -> CountedCgroup:
    identity = msgspec.structs.replace(identify(path), **names)
    source = "runtime" if names else "path"
    return CountedCgroup(1, path, len([*filter(None, path.split("/"))]), identity, source, processes, age_seconds)


_NAMES = {"namespace": "shop", "pod_name": "web-1"}
_CENSUS = [
    _counted("/", 128, 40 * 86_400.0),
    _counted("/kubepods.slice", 3, 7_300.0),
    _counted(_POD, 3, 7_300.0, **_NAMES),
    _counted(_SCOPE, 3, 7_290.0, **_NAMES, container_name="app"),
    _counted("/system.slice", 40, 40 * 86_400.0),
    _counted("/system.slice/cron.service", 1, 40 * 86_400.0),
    _counted("/system.slice/a-service-with-a-name-that-is-longer-than-most.service", 12, 95.0),
]
_CHECKS = [
    Check("machine", "ok", True, "x86_64, 64-bit Python", None),
    Check(
        "open-files", "failed", True, "a run on 2 CPUs opens 112 files, the limit is 64", "raise the limit: ulimit -n"
    ),
    Check("perf-event-paranoid", "ok", True, "2, which does not matter with CAP_SYS_ADMIN", None),
    Check(
        "event-cycles",
        "warning",
        False,
        "cycles: the node has no PMU that counts it (ENOENT)",
        "cycles stays null; name an event that this node counts: --event cycles=SPEC",
    ),
    Check("output", "skipped", True, "not checked: no --output given", None),
]
_OUTCOME = Outcome(
    victim=Side(name="web-1/app", cgroup_path="/web", cpus_paused=0.3, cpus_otherwise=0.2),
    suspect=Side(name="batch-7/etl", cgroup_path="/etl", cpus_paused=0.01, cpus_otherwise=0.9),
    control="cpu.max",
    pauses=60,
    pauses_planned=60,
    pulse_seconds=0.05,
    block_seconds=0.5,
    ended_early=None,
    latest_pause_ms=0.4,
    confidence=0.975,
    seed=1,
    effects=[
        Effect(
            kind="waiting",
            verdict="proved",
            reason=None,
            paused=0.05,
            otherwise=0.71,
            difference=Interval(value=0.66, low=0.58, high=0.75),
            share=Interval(value=0.38, low=0.35, high=0.42),
            p_value=1e-6,
        ),
        Effect(
            kind="cpi",
            verdict="unknown",
            reason="cycles were not counted",
            paused=None,
            otherwise=None,
            difference=None,
            share=None,
            p_value=None,
        ),
    ],
    notes=[],
)
