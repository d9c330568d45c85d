# SPDX-License-Identifier: Apache-2.0
"""What is written to a control file comes off it again as it was found, and nobody else's text is touched."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tracer.errors import NodeUnsupportedError, UsageError
from tracer.experiment import cgroup_control
from tracer.experiment.cgroup_control import CPU_MAX, FREEZE, ChangedError, Control, pause, restore
from tracer.experiment.pausing import How, choose_control
from tracer.experiment.state_file import State, StateFile, boot_id, end_pause, restore_after_a_kill

MS = 1_000_000


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    """A directory with the files of a cgroup; without a kernel behind them they keep what is written."""
    directory = tmp_path / "cgroup"
    directory.mkdir()
    for file, text in ((FREEZE, "0\n"), (CPU_MAX, "25000 50000\n"), ("cgroup.events", "populated 1\nfrozen 0\n")):
        (directory / file).write_text(text)
    return directory


@pytest.fixture
def opened(cgroup: Path) -> Iterator[int]:
    descriptor = os.open(cgroup, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def truncating(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's files hold the last write alone."""

    def write(directory: int, file: str, text: str) -> None:
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC, dir_fd=directory)
        os.write(descriptor, f"{text}\n".encode())
        os.close(descriptor)

    monkeypatch.setattr(cgroup_control, "write_text", write)


@pytest.mark.usefixtures("truncating")
@pytest.mark.parametrize("how", [How.throttle, How.freeze])
def test_the_very_text_is_restored(cgroup: Path, opened: int, how: How) -> None:
    before = {file: (cgroup / file).read_text() for file in (FREEZE, CPU_MAX)}
    control = choose_control(opened, "/a", how, 50 * MS)
    pause(opened, control)
    assert (cgroup / control.file).read_text() == f"{control.paused}\n" != before[control.file]
    restore(opened, control)
    assert {file: (cgroup / file).read_text() for file in (FREEZE, CPU_MAX)} == before


@pytest.mark.usefixtures("truncating")
def test_what_somebody_else_wrote_stays(cgroup: Path, opened: int) -> None:
    control = choose_control(opened, "/a", How.throttle, 50 * MS)
    (cgroup / CPU_MAX).write_text("max 100000\n")
    with pytest.raises(ChangedError, match=r"'25000 50000' and is 'max 100000' now"):
        pause(opened, control)
    with pytest.raises(ChangedError):
        restore(opened, control)
    assert (cgroup / CPU_MAX).read_text() == "max 100000\n"


def test_a_cgroup_that_is_gone_needs_no_restoring(cgroup: Path, opened: int) -> None:
    for file in cgroup.iterdir():
        file.unlink()
    restore(opened, Control(FREEZE, "0", "1"))


@pytest.mark.parametrize("how", [How.auto, How.freeze])
def test_without_the_cpu_controller_it_is_frozen(cgroup: Path, opened: int, how: How) -> None:
    (cgroup / CPU_MAX).unlink()
    assert choose_control(opened, "/a", how, 200 * MS) == Control(FREEZE, "0", "1")
    with pytest.raises(UsageError, match="200ms or less"):
        choose_control(opened, "/a", how, 205 * MS)


def test_with_it_a_limit_is_preferred(opened: int) -> None:
    assert choose_control(opened, "/a", How.auto, 1000 * MS).file == CPU_MAX


def test_a_limit_that_cannot_be_had_is_an_error_only_if_asked_for(cgroup: Path, opened: int) -> None:
    (cgroup / "cpu.max.burst").write_text("5000\n")
    assert choose_control(opened, "/a", How.auto, 50 * MS).file == FREEZE
    with pytest.raises(UsageError, match="burst"):
        choose_control(opened, "/a", How.throttle, 50 * MS)
    (cgroup / CPU_MAX).unlink()
    with pytest.raises(NodeUnsupportedError, match="cpu controller"):
        choose_control(opened, "/a", How.throttle, 50 * MS)


@pytest.mark.parametrize("stopped", ["by itself", "from above"])
@pytest.mark.parametrize("how", list(How))
def test_whoever_stands_still_already_is_refused(cgroup: Path, opened: int, how: How, stopped: str) -> None:
    if stopped == "by itself":
        (cgroup / FREEZE).write_text("1\n")
    else:
        (cgroup / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    with pytest.raises(UsageError, match="frozen already"):
        choose_control(opened, "/a", how, 50 * MS)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EBUSY])
def test_a_file_that_cannot_be_written_is_told(opened: int, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    really = os.open

    def refuse(path: str, flags: int, *arguments: int, dir_fd: int | None = None) -> int:
        if flags & os.O_WRONLY:
            raise OSError(number, os.strerror(number), path)
        return really(path, flags, *arguments, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(NodeUnsupportedError, match=os.strerror(number)):
        choose_control(opened, "/a", How.auto, 50 * MS)


def state_of(cgroup: Path, recording: Path | None = None, boot: str | None = None) -> State:
    return State(
        boot_id=boot or boot_id(),
        directory=str(cgroup),
        cgroup_id=cgroup.stat().st_ino,
        control=Control(FREEZE, "0", "1"),
        recording=None if recording is None else str(recording),
    )


def left_by_the_killed(runtime: Path, state: State, *, is_paused: bool) -> None:
    held = StateFile.lock(runtime)
    held.write(state)
    held.mark(is_paused=is_paused)
    held.close()


@pytest.mark.usefixtures("truncating")
def test_what_the_killed_left_is_restored_once(cgroup: Path, tmp_path: Path) -> None:
    recording = tmp_path / "tracer-verify-x"
    recording.mkdir()
    (cgroup / FREEZE).write_text("1\n")
    left_by_the_killed(tmp_path / "run", state_of(cgroup, recording), is_paused=True)
    assert f"restored cgroup.freeze of {cgroup}" in (restore_after_a_kill(tmp_path / "run") or "")
    assert (cgroup / FREEZE).read_text() == "0\n"
    assert not recording.exists()
    assert not list((tmp_path / "run").iterdir())
    assert restore_after_a_kill(tmp_path / "run") is None


@pytest.mark.usefixtures("truncating")
@pytest.mark.parametrize("other", ["between pauses", "another boot", "another cgroup", "under way", "half written"])
def test_what_is_not_left_paused_is_left_alone(cgroup: Path, tmp_path: Path, other: str) -> None:
    """Whoever froze it then is somebody else."""
    (cgroup / FREEZE).write_text("1\n")
    state = state_of(cgroup, boot="an earlier one" if other == "another boot" else None)
    left_by_the_killed(tmp_path / "run", state, is_paused=other != "between pauses")
    if other == "another cgroup":
        cgroup.rename(tmp_path / "earlier")
        cgroup.mkdir()
        (cgroup / FREEZE).write_text("1\n")
    if other == "half written":
        file = tmp_path / "run" / "verify.json"
        file.write_bytes(file.read_bytes()[:-10])
    if other == "under way":
        held = StateFile.lock(tmp_path / "run")
        with pytest.raises(UsageError, match="another `tracer verify` is under way"):
            StateFile.lock(tmp_path / "run")
    restore_after_a_kill(tmp_path / "run")
    assert (cgroup / FREEZE).read_text() == "1\n"
    if other == "under way":
        assert end_pause(held) == state
        assert (cgroup / FREEZE).read_text() == "0\n"
        held.close()


def test_no_directory_but_its_own_is_removed(cgroup: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    left_by_the_killed(tmp_path / "run", state_of(cgroup, kept), is_paused=False)
    restore_after_a_kill(tmp_path / "run")
    assert kept.is_dir()


def test_a_place_that_cannot_keep_a_state_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NodeUnsupportedError, match="cannot keep a state file"):
        StateFile.lock(tmp_path / "file" / "run")
