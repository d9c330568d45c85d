# SPDX-License-Identifier: Apache-2.0
"""`tracer verify`: whether a container really slows down another one, by an experiment."""

import os
import sys
from contextlib import ExitStack, suppress
from typing import Annotated

import typer

from tracer.cli.leftovers import restore_leftovers
from tracer.cli.mistakes import of_option
from tracer.cli.stop_signals import StopSignals
from tracer.errors import UsageError
from tracer.kernel.capabilities import import_without_rights
from tracer.suggestions import not_among


def verify(
    victim: Annotated[
        str,
        typer.Argument(
            metavar="VICTIM",
            help="Who may be slowed down; named as --container of `report` has it: shop/web-1/app.",
        ),
    ],
    suspect: Annotated[
        str, typer.Argument(metavar="SUSPECT", help="Who is paused for moments; named in the same way.")
    ],
    duration: Annotated[str, typer.Option(metavar="TIME", help="How long it goes on at most, up to 10m.")] = "30s",
    pulse: Annotated[
        str, typer.Option(metavar="TIME", help="Length of a pause, 20ms to 1s; to 200ms where the suspect is frozen.")
    ] = "50ms",
    duty: Annotated[
        float, typer.Option(help="Per cent of the time for which the suspect is paused at most, 1 to 25.")
    ] = 10,
    by: Annotated[
        str,
        typer.Option(metavar="auto|throttle|freeze", help="Pause by cpu.max, by cgroup.freeze, or as it can be done."),
    ] = "auto",
    force: Annotated[
        str | None,
        typer.Option(metavar="SUSPECT", help="Pause it though the system may need it: repeat its name."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and touch nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing shortened.")] = False,
    containerd_state: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR", help="A further `state` directory of containerd with names."),
    ] = None,
) -> None:
    """Prove or refute that SUSPECT slows VICTIM down: pause it for moments, and look.

    The moments are short and drawn at random, so that what differs in them is
    the suspect's doing. How long the victim waits for CPUs then, and its cycles
    per instruction, is compared with moments without a pause; the intervals need
    no model. All is put back as it was found, also if this is killed. Parts of
    the system, of kube-system and of critical pods are not paused unless forced.
    """
    with StopSignals() as signals, ExitStack() as on_failure:
        signals.give_back(on_failure.close)
        with signals.while_importing():
            import_without_rights("tracer.experiment.experiment")
            import numpy as np

            from tracer.cli.verify_text import plan_text, print_outcome, print_plan
            from tracer.containers.cgroupfs import find_cgroup2_mount
            from tracer.containers.runtime_state import RuntimeState, state_directory
            from tracer.experiment.experiment import TICK_NS, Experiment, run_experiment
            from tracer.experiment.naming import Node
            from tracer.experiment.pausing import How, choose_control
            from tracer.experiment.protection import cannot_be_told, require_allowed
            from tracer.experiment.schedule import draw_schedule
            from tracer.kernel.loader import ProgramLoadError
            from tracer.pipeline.stage import StuckError
            from tracer.preflight.doctor import explain_load_failure, require_runnable
            from tracer.units import parse_duration_ns
        if by not in list(How):
            raise UsageError(f"--by: {not_among('value', by, list(How))}")
        if force is not None and force != suspect:
            raise UsageError(f"--force must repeat the name of the suspect, {suspect!r}")
        seed = int.from_bytes(os.urandom(4))
        schedule = draw_schedule(
            duration_ns=of_option("duration", duration, parse_duration_ns),
            pulse_ns=of_option("pulse", pulse, parse_duration_ns),
            duty=duty / 100,
            tick_ns=TICK_NS,
            generator=np.random.default_rng(seed),
        )
        states = tuple(map(state_directory, containerd_state or []))
        node = Node(find_cgroup2_mount(), RuntimeState(containerd_states=states))
        watched, paused = node.find(victim), node.find(suspect)
        require_allowed(node, watched, paused, forced=force is not None)
        require_runnable(TICK_NS)
        if not dry_run:
            restore_leftovers()
        directory = _open_directory(paused.directory)
        on_failure.callback(os.close, directory)
        control = choose_control(directory, paused.cgroup.path, How(by), parse_duration_ns(pulse))
        experiment = Experiment(watched, paused, control, schedule, seed, states)
        if dry_run:
            print_plan(experiment, cannot_be_told(paused), as_json=as_json)
            return
        try:
            outcome = run_experiment(experiment, directory, signals, on_failure, lambda: _say(plan_text(experiment)))
        except ProgramLoadError as error:
            raise explain_load_failure(error) from error
        except StuckError as error:
            # As in a run: what is stuck may still use what would be given back. The suspect was before.
            _say(str(error))
            os._exit(error.exit_code)
    print_outcome(outcome, as_json=as_json)


def _open_directory(path: os.PathLike[str]) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"the suspect is gone: {os.fspath(path)!r}: {error.strerror}") from error


def _say(text: str) -> None:
    # The terminal may be gone; the experiment goes on.
    with suppress(OSError):
        print(f"tracer: {text}", file=sys.stderr, flush=True)
