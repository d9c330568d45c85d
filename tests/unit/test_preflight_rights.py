# SPDX-License-Identifier: Apache-2.0
"""What is kept for what, who a run turns into, and threads that have less."""

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.kernel.capabilities import Capabilities, import_without_rights, in_thread, permitted
from tracer.pipeline.users import User, parse_user
from tracer.preflight.node import judge_rights
from tracer.preflight.rights import (
    RIGHTS,
    TO_LOAD,
    Circumstances,
    has_others_directories,
    hides_processes,
    lacking,
    needed_to_start,
    needed_to_the_end,
)

ALWAYS = Capabilities.PERFMON | Capabilities.DAC_READ_SEARCH


@pytest.mark.parametrize(
    ("circumstances", "further"),
    [
        (Circumstances(), Capabilities.NONE),
        (Circumstances(processes=True), Capabilities.SYS_PTRACE),
        (Circumstances(hidden_senders=True), Capabilities.SYS_PTRACE),
        (Circumstances(nri=True), Capabilities.SYS_NICE),
        (Circumstances(resctrl_mount=True), Capabilities.SYS_ADMIN),
        (Circumstances(resctrl=True), Capabilities.DAC_OVERRIDE),
        (Circumstances(own_cgroups=True), Capabilities.DAC_OVERRIDE),
        (Circumstances(others_output=True), Capabilities.DAC_OVERRIDE),
        (Circumstances(is_sudo=True), Capabilities.DAC_OVERRIDE | Capabilities.CHOWN | Capabilities.FOWNER),
        (Circumstances(perfmon_is_enough=False), Capabilities.NONE),
        (Circumstances(bpf_is_asked_for=True), Capabilities.BPF),
        (Circumstances(cpus_can_be_added=True), Capabilities.BPF),
    ],
)
def test_only_what_is_needed_is_kept(circumstances: Circumstances, further: Capabilities) -> None:
    assert needed_to_the_end(circumstances) == ALWAYS | further
    assert needed_to_start(circumstances) >= TO_LOAD | ALWAYS | further


def test_what_is_missing_is_named_with_what_it_is_for() -> None:
    held = Capabilities.BPF | Capabilities.PERFMON
    of_processes = "without CAP_SYS_PTRACE, which reads the memory of each process (--processes)"
    assert of_processes in lacking(Circumstances(processes=True), held)
    assert of_processes not in lacking(Circumstances(), held)
    assert lacking(Circumstances(), ALWAYS) == []
    # It is as good as those two.
    assert lacking(Circumstances(), Capabilities.SYS_ADMIN | Capabilities.DAC_READ_SEARCH) == []
    assert judge_rights(held).status == "info"
    assert of_processes in judge_rights(held).found
    everything = Capabilities(sum({right.capability for right in RIGHTS}))
    assert judge_rights(everything).status == "ok"


def test_a_thread_can_have_nothing_and_what_it_makes_too() -> None:
    before = permitted()

    def nested() -> tuple[Capabilities, Capabilities]:
        return permitted(), in_thread(before, permitted)

    assert in_thread(Capabilities.NONE, nested) == (Capabilities.NONE, Capabilities.NONE)
    assert permitted() == before
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        import_without_rights("no_such_module")


def test_a_directory_of_somebody_else_below_the_output_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "windows" / "dt=2026-11-27").mkdir(parents=True)
    (tmp_path / "windows" / "file").touch()
    assert not has_others_directories(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    assert has_others_directories(tmp_path)


def test_users_by_name_and_number() -> None:
    nobody = pwd.getpwnam("nobody")
    groups = tuple(os.getgrouplist("nobody", nobody.pw_gid))
    for text in ("nobody", str(nobody.pw_uid)):
        assert parse_user(text) == User(nobody.pw_uid, nobody.pw_gid, groups)
    assert parse_user("nobody:root") == User(nobody.pw_uid, 0, (0,))
    assert parse_user("4000000000:4000000001") == User(4_000_000_000, 4_000_000_001, (4_000_000_001,))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("no such", "no such user"),
        ("", "no such user"),
        (":0", "no such user"),
        ("nobody:", "no such group"),
        ("nobody:no such", "no such group"),
        ("4000000000", "give its group too, UID:GID"),
        ("4294967295:0", "is no number of a user or group"),
        ("0:4294967295", "is no number of a user or group"),
        ("9" * 5000, "is no number of a user or group"),
        ("-1", "no such user"),
        ("²", "no such user"),
        ("a\0b", "no such user"),
    ],
)
def test_users_that_there_are_not(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_user(text)


@given(st.text(max_size=30))
def test_any_text_is_a_user_or_a_mistake(text: str) -> None:
    try:
        user = parse_user(text)
    except UsageError:
        return
    assert 0 <= user.uid < 2**32 - 1
    assert 0 <= user.gid < 2**32 - 1


@pytest.mark.parametrize(
    ("mounts", "hides"),
    [
        ("proc /proc proc rw,nosuid,relatime,hidepid=invisible 0 0\n", True),
        ("proc /proc proc rw,hidepid=2,gid=4 0 0\n", True),
        ("proc /proc proc rw,hidepid=off 0 0\n", False),
        ("proc /proc proc rw,relatime 0 0\nproc /chroot/proc proc rw,hidepid=2 0 0\n", False),
        ("", False),
    ],
)
def test_a_proc_that_hides_processes(mounts: str, hides: bool) -> None:
    assert hides_processes(mounts) == hides
