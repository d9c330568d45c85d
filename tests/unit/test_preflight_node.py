# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.mounts import Mount
from tracer.preflight.checks import Finding, Status
from tracer.preflight.node import (
    CAP_BPF,
    CAP_PERFMON,
    CAP_SYS_ADMIN,
    effective_capabilities,
    has,
    judge_cgroup_tree,
    judge_clock_source,
    judge_inotify,
    judge_lockdown,
    judge_machine,
    judge_open_files,
    judge_privileges,
    judge_resctrl,
    judge_tracefs,
)
from tracer.preflight.storage import judge_free_space

STATUS = "Name:\tCapEff:\nUid:\t0\t0\t0\t0\nCapPrm:\t000001ffffffffff\nCapEff:\t000000c000200000\nSeccomp:\t0\n"
BPF, PERFMON, ADMIN = 1 << CAP_BPF, 1 << CAP_PERFMON, 1 << CAP_SYS_ADMIN


def test_effective_capabilities() -> None:
    assert effective_capabilities(STATUS) == BPF | PERFMON | ADMIN
    assert effective_capabilities("CapEff:\tzz\n") == 0


@given(st.text(max_size=200))
def test_any_text_gives_capabilities(text: str) -> None:
    assert 0 <= effective_capabilities(text) < 1 << 64


def test_has_wants_all_of_them() -> None:
    assert has(BPF | PERFMON, CAP_BPF, CAP_PERFMON)
    assert not has(BPF, CAP_BPF, CAP_PERFMON)


@pytest.mark.parametrize(
    ("capabilities", "status"),
    [(ADMIN, "ok"), (BPF | PERFMON, "ok"), (BPF, "failed"), (PERFMON, "failed"), (0, "failed")],
)
def test_privileges(capabilities: int, status: Status) -> None:
    finding = judge_privileges(capabilities, 1000, host_namespace=True)
    assert finding.status == status
    assert "1000" in finding.found
    assert (finding.remedy is None) == (status == "ok")


def test_capabilities_of_a_user_namespace_do_not_count() -> None:
    finding = judge_privileges(ADMIN, 0, host_namespace=False)
    assert finding.status == "failed"
    assert "user namespace" in finding.found


@pytest.mark.parametrize(
    ("name", "known", "bits", "status"),
    [("x86_64", True, 64, "ok"), ("aarch64", True, 32, "failed"), ("riscv64", False, 64, "failed")],
)
def test_machine(name: str, known: bool, bits: int, status: Status) -> None:
    finding = judge_machine(name, known=known, python_bits=bits)
    assert (finding.status, name in finding.found) == (status, True)


def test_a_part_of_the_cgroup_tree_is_a_limit() -> None:
    assert judge_cgroup_tree(Path("/sys/fs/cgroup"), 1).status == "ok"
    assert judge_cgroup_tree(Path("/sys/fs/cgroup"), 4711).status == "warning"


def test_open_files_of_a_large_machine() -> None:
    assert judge_open_files(1024, 128).status == "ok"
    finding = judge_open_files(1024, 256)
    assert finding.status == "failed"
    assert "ulimit -n 1636" in (finding.remedy or "")


@pytest.mark.parametrize(
    ("name", "status"), [("tsc", "ok"), ("arch_sys_counter", "ok"), ("kvm-clock", "ok"), ("hpet", "warning")]
)
def test_clock_source(name: str, status: Status) -> None:
    assert judge_clock_source(name).status == status


def test_an_unknown_clock_source_is_no_limit() -> None:
    assert judge_clock_source(None).status == "info"


@pytest.mark.parametrize(
    ("finding", "found"),
    [
        (judge_tracefs([Mount("/t", "rw")]), "mounted at /t"),
        (judge_tracefs([]), "not mounted; nothing here needs it"),
        (judge_lockdown("none [integrity] confidentiality"), "integrity"),
        (judge_lockdown("[none] integrity confidentiality"), "none"),
        (judge_lockdown(None), "not shown by this kernel"),
        (judge_inotify(8192, 128), "a user may have 8192 watches in 128 instances"),
        (judge_inotify(None, None), "not in this kernel"),
        (judge_resctrl([Mount("/r", "rw")], ["llc_occupancy"], ""), "mounted at /r; monitors llc_occupancy"),
        (judge_resctrl([Mount("/r", "rw")], [], ""), "mounted at /r; monitors nothing"),
        (
            judge_resctrl([], [], "nodev\tproc"),
            "not supported by this processor or kernel: the llc table stays empty",
        ),
    ],
)
def test_what_is_only_good_to_know(finding: Finding, found: str) -> None:
    assert finding == ("info", found, None)


def test_a_resctrl_that_is_not_mounted_can_be() -> None:
    finding = judge_resctrl([], [], "nodev\tresctrl\nnodev\tproc")
    assert finding[:2] == ("info", "supported, not mounted")
    assert finding.remedy is not None
    assert "--resctrl-mount" in finding.remedy


def test_scarce_space_is_a_limit() -> None:
    assert judge_free_space(Path("/x"), 5 << 30) == ("ok", "5.0 GiB free at /x", None)
    assert judge_free_space(Path("/x"), (1 << 30) - 1).status == "warning"
