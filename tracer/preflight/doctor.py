# SPDX-License-Identifier: Apache-2.0
"""All checks in order, for `tracer doctor`; the quick ones of them for `tracer run`, in the same words."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel.event_specs import EventSpec
from tracer.preflight.checks import Check, Finding, Status, failure, one_line
from tracer.preflight.counters import COUNTER_PROBES
from tracer.preflight.node import INFORMATION_PROBES, NODE_PROBES
from tracer.preflight.probes import Probe, Trial
from tracer.preflight.programs import PROGRAM_PROBES, judge_load_failure
from tracer.preflight.storage import STORAGE_PROBES

# What a probe needs comes before it.
PROBES = (*NODE_PROBES, *COUNTER_PROBES, *PROGRAM_PROBES, *STORAGE_PROBES, *INFORMATION_PROBES)


def run_checks(output: Path | None, specs: tuple[EventSpec, ...], tick_ns: int) -> Iterator[Check]:
    """Every check once, as it is finished, in under three seconds in all; what they open is closed at the end.

    `specs` are the events of a run, one for each of COUNTER_COLUMNS. Checks of the output are skipped without one;
    with one they leave nothing behind.
    """
    with Trial(tick_ns=tick_ns, specs=specs, output=output) as trial:
        yield from make_checks(PROBES, trial)


def require_runnable(tick_ns: int) -> None:
    """Makes the quick checks that a run cannot work without. Raises NodeUnsupportedError for the first that fails.

    Whether BCC and the programs are well shows when the run loads them: `explain_load_failure` is for that.
    """
    with Trial(tick_ns=tick_ns) as trial:
        for check in make_checks([probe for probe in PROBES if probe.quick], trial):
            if check.status == "failed":
                raise NodeUnsupportedError(check.message)


def explain_load_failure(error: TracerError) -> NodeUnsupportedError:
    """What `ProgramLoad.result` raised, in the words of the check `bpf-load`."""
    return NodeUnsupportedError(_check("bpf-load", judge_load_failure(error), required=True).message)


def make_checks(probes: Iterable[Probe], trial: Trial) -> Iterator[Check]:
    """A check for each probe, in order; skipped where one that it needs failed or was skipped."""
    statuses: dict[str, Status] = {}
    for probe in probes:
        missing = [needed for needed in probe.needs if statuses[needed] in ("failed", "skipped")]
        if missing:
            finding = Finding("skipped", f"not checked: it needs {', '.join(missing)}")
        else:
            try:
                finding = probe.examine(trial)
            except (TracerError, OSError) as error:
                finding = failure(error, probe.id, probe.remedy, "failed" if probe.required else "warning")
        statuses[probe.id] = finding.status
        yield _check(probe.id, finding, required=probe.required)


def _check(check_id: str, finding: Finding, *, required: bool) -> Check:
    remedy = None if finding.remedy is None else one_line(finding.remedy)
    return Check(check_id, finding.status, required, one_line(finding.found), remedy)
