# SPDX-License-Identifier: Apache-2.0
import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import NodeUnsupportedError
from tracer.preflight.checks import Status
from tracer.preflight.doctor import explain_load_failure
from tracer.preflight.programs import judge_bpf, judge_import, judge_load_failure

PREFIX = "the BPF programs cannot be loaded: "
MISSING = "BCC is not installed (No module named 'bcc'): apt-get install python3-bpfcc"
UNRELATED = "the installed `bcc` is PyPI's unrelated package: pip uninstall bcc, apt-get install python3-bpfcc"


@pytest.mark.parametrize(
    ("code", "status"),
    [(errno.ENOSYS, "failed"), (errno.EPERM, "failed"), (errno.EACCES, "failed"), (errno.EINVAL, "ok")],
)
def test_a_kernel_that_only_lacks_a_map_type_answers(code: int, status: Status) -> None:
    assert judge_bpf(OSError(code, os.strerror(code))).status == status
    assert judge_bpf(None).status == "ok"


@pytest.mark.parametrize(
    ("said", "found", "remedy"),
    [
        (
            f"Traceback (most recent call last):\n  File x\nImportError: {MISSING}\n",
            "BCC is not installed (No module named 'bcc')",
            "apt-get install python3-bpfcc",
        ),
        (
            f"ImportError: {UNRELATED}\n",
            "the installed `bcc` is PyPI's unrelated package",
            "pip uninstall bcc, apt-get install python3-bpfcc",
        ),
        (
            "Traceback (most recent call last):\nOSError: libbcc.so.0: cannot open shared object file",
            "BCC cannot be imported: OSError: libbcc.so.0: cannot open shared object file",
            "apt-get install --reinstall python3-bpfcc",
        ),
    ],
)
def test_why_bcc_is_missing(said: str, found: str, remedy: str) -> None:
    assert judge_import(said) == ("failed", found, remedy)


@given(st.text(max_size=200))
def test_whatever_the_loader_says_is_a_failure_with_a_remedy(reason: str) -> None:
    finding = judge_load_failure(NodeUnsupportedError(PREFIX + reason))
    assert finding.status == "failed"
    assert finding.remedy
    message = str(explain_load_failure(NodeUnsupportedError(PREFIX + reason)))
    assert message.isprintable()


def test_a_run_without_bcc_fails_in_the_words_of_the_check() -> None:
    error = explain_load_failure(NodeUnsupportedError(PREFIX + MISSING))
    assert str(error) == "BCC is not installed (No module named 'bcc'); apt-get install python3-bpfcc"


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("could not open bpf map: rings, error: Operation not permitted", "seccomp"),
        ("cgroup_ticks.c:40:2: error: use of undeclared identifier 'x'", "newer"),
    ],
)
def test_the_remedy_fits_the_reason(reason: str, remedy: str) -> None:
    finding = judge_load_failure(NodeUnsupportedError(PREFIX + reason))
    assert finding.found == PREFIX + reason
    assert remedy in (finding.remedy or "")
