# SPDX-License-Identifier: Apache-2.0
"""`tracer demo`: two containers that compete for a CPU, traced, and the report on them."""

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracer.cli.calling import command_name
from tracer.cli.run import default_options
from tracer.cli.run_options import parse_options
from tracer.cli.saying import say, say_next
from tracer.cli.stop_signals import StopSignals
from tracer.cli.tracing import trace
from tracer.errors import UsageError

if TYPE_CHECKING:
    from tracer.demo.scene import Answers

_BOUNDS_NS = (10**9, 3600 * 10**9)
_TO_READ = 0o755


def demo(
    duration: Annotated[
        str, typer.Option("--duration", "-d", metavar="TIME", help="How long they compete, 1s to 1h.")
    ] = "10s",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Where the results go.", show_default="a temporary one"),
    ] = None,
) -> None:
    """Show on this node what it is about: two small containers compete for a CPU, and the report names the culprit.

    demo-service answers a request each 5 ms, demo-hog uses in bursts all of the
    CPU that it gets, and `tracer run` looks on. They are real cgroups with real
    processes on one CPU of this node, and are gone at the end, however it comes.
    """
    with StopSignals() as signals, ExitStack() as on_failure:
        signals.give_back(on_failure.close)
        options = parse_options(default_options() | {"duration": duration, "output": output or Path()})
        low, high = _BOUNDS_NS
        duration_ns = options.duration_ns or 0
        if not low <= duration_ns <= high:
            raise UsageError(f"--duration must be between 1s and 1h, not {duration!r}")
        with signals.while_importing():
            import msgspec

            from tracer.containers.cgroupfs import find_cgroup2_mount
            from tracer.demo.scene import HOG, SERVICE, Scene
            from tracer.preflight.doctor import require_runnable

        require_runnable(options.tick_ns)
        if output is None:
            output = _temporary(on_failure)
            options = msgspec.structs.replace(options, output=output)
        scene = Scene(find_cgroup2_mount(), duration_ns / 1e9)
        on_failure.callback(scene.end)
        scene.prepare()

        def begin() -> None:
            say(f"{SERVICE} and {HOG} share CPU {scene.cpu} for {duration_ns / 1e9:g} s")
            scene.begin()

        final = trace(options, signals, on_failure, began=begin, own_cgroups=True)
        answers = scene.answers()
    from tracer.cli.closing_report import print_closing_report

    if answers is not None:
        _say_answers(answers)
    print_closing_report(output, final.recorded[-1], container=SERVICE)
    say(f"the experiments above need both at work: {command_name()} demo -d 5m in one terminal, they in another")
    say_next("report", "--html", "demo.html", output)
    say_next("plot", "--kind", "waits", "--container", SERVICE, output)
    say_next("run", as_root=True)


def _temporary(on_failure: ExitStack) -> Path:
    """A directory of its own, which whoever called sudo may read too; gone again if nothing was recorded."""
    output = Path(tempfile.mkdtemp(prefix="tracer-demo-"))
    output.chmod(_TO_READ)

    def remove_if_empty() -> None:
        with suppress(OSError):
            output.rmdir()

    on_failure.callback(remove_if_empty)
    return output


def _say_answers(answers: "Answers") -> None:
    from tracer.demo.scene import SERVICE

    work, latency, slowest = (value / 1e6 for value in (answers.work_ns, answers.latency_ns, answers.slowest_ns))
    say(
        f"{SERVICE} itself has measured {answers.requests:,} requests: each is {work:.1f} ms of work, half of them "
        f"took {latency:.1f} ms or more, one in a hundred {slowest:.1f} ms or more"
    )
