# SPDX-License-Identifier: Apache-2.0
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import NodeUnsupportedError
from tracer.preflight.checks import Check, Finding, Status, failure, one_line, verdict
from tracer.preflight.doctor import PROBES, make_checks
from tracer.preflight.probes import Probe, Trial


def check(status: Status, remedy: str | None = None) -> Check:
    return Check("a-check", status, required=True, found="what is", remedy=remedy)


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ([], "ready"),
        (["ok", "info", "skipped"], "ready"),
        (["ok", "warning"], "ready-with-limits"),
        (["warning", "failed", "skipped"], "cannot-run"),
    ],
)
def test_verdict(statuses: list[Status], expected: str) -> None:
    assert verdict(map(check, statuses)) == expected


def test_the_message_of_a_run_is_both_lines() -> None:
    assert check("failed", "do this").message == "what is; do this"
    assert check("ok").message == "what is"


@given(st.text(alphabet=st.characters(), max_size=1000))
def test_one_line_is_harmless(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line) <= 400
    assert line.encode().decode() == line


def test_one_line_keeps_what_is_harmless() -> None:
    assert one_line(" /caf\u00e9/a b\n") == "/caf\u00e9/a b"
    assert one_line("\x1b[2J\udcff\u202e") == "\\x1b[2J\\udcff\\u202e"


def test_an_error_knows_its_own_remedy_best() -> None:
    assert failure(NodeUnsupportedError("no tree; mount it; now"), "what", "other") == (
        "failed",
        "no tree",
        "mount it; now",
    )
    assert failure(NodeUnsupportedError("no tree"), "what", "other", "warning") == ("warning", "no tree", "other")


def test_an_error_of_the_system_names_its_file_or_the_check() -> None:
    missing = OSError(errno.ENOENT, "No such file", "/proc/x")
    assert failure(missing, "what", "do this").found == "/proc/x: No such file"
    assert failure(OSError(errno.EINVAL, "Invalid argument"), "what", "").found == "what: Invalid argument"
    assert failure(OSError("no number"), "what", "").found == "what: no number"


def test_identifiers_are_unique_and_what_a_probe_needs_comes_first() -> None:
    known: dict[str, Probe] = {}
    for probe in PROBES:
        assert probe.id not in known
        assert probe.id.replace("-", "").isalnum()
        assert probe.id.islower()
        for needed in probe.needs:
            assert known[needed].required
            assert known[needed].quick or not probe.quick
        known[probe.id] = probe


def test_a_run_makes_only_checks_it_cannot_work_without() -> None:
    assert all(probe.required for probe in PROBES if probe.quick)


def fine(_trial: Trial) -> Finding:
    return Finding("ok", "fine")


def broken(_trial: Trial) -> Finding:
    raise OSError(errno.EPERM, "Operation not permitted")


def unreached(_trial: Trial) -> Finding:
    raise AssertionError("examined although what it needs failed")


def test_what_needs_a_failed_check_is_skipped_and_says_on_which() -> None:
    probes = [
        Probe("first", fine, "", required=True),
        Probe("second", broken, "do this", required=True, needs=("first",)),
        Probe("third", unreached, "", required=True, needs=("first", "second")),
        Probe("fourth", unreached, "", needs=("third",)),
        Probe("fifth", broken, "do that", needs=("first",)),
        Probe("sixth", fine, "", needs=("fifth",)),
    ]
    made = [(made.id, made.status, made.found, made.remedy) for made in make_checks(probes, Trial(tick_ns=1_000_000))]
    assert made == [
        ("first", "ok", "fine", None),
        ("second", "failed", "second: Operation not permitted", "do this"),
        ("third", "skipped", "not checked: it needs second", None),
        ("fourth", "skipped", "not checked: it needs third", None),
        ("fifth", "warning", "fifth: Operation not permitted", "do that"),
        ("sixth", "ok", "fine", None),
    ]
