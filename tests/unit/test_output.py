# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from store_examples import fill_up, mounted_tmpfs, remount_read_only

from tracer.errors import OutputError
from tracer.store.output import prepare_output


def test_a_missing_directory_is_made_and_left_empty(tmp_path: Path):
    output = tmp_path / "a" / "b"
    prepared = prepare_output(output)
    assert prepared.path == output
    assert list(output.iterdir()) == []


def test_a_run_that_does_not_start_takes_back_only_what_it_made(tmp_path: Path):
    (tmp_path / "a").mkdir()
    prepare_output(tmp_path / "a" / "b" / "c").remove_if_empty()
    assert list((tmp_path / "a").iterdir()) == []

    prepared = prepare_output(tmp_path / "a" / "b" / "c")
    (tmp_path / "a" / "b" / "theirs").touch()
    prepared.remove_if_empty()
    assert list((tmp_path / "a" / "b").iterdir()) == [tmp_path / "a" / "b" / "theirs"]

    (tmp_path / "before").mkdir()
    prepare_output(tmp_path / "before").remove_if_empty()
    assert (tmp_path / "before").is_dir()


def test_a_relative_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert prepare_output(Path("out")).path == tmp_path / "out"


def refused(output: Path) -> str:
    """The message of the refusal, checked to be one line that names the output."""
    with pytest.raises(OutputError) as failure:
        prepare_output(output)
    message = str(failure.value)
    assert repr(str(output)) in message
    assert "\n" not in message
    return message


def test_what_cannot_be_a_directory_is_refused_and_nothing_is_left(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(tmp_path.rglob("*"))
    assert "Not a directory" in refused(tmp_path / "file")
    assert "Not a directory" in refused(tmp_path / "file" / "below")
    assert "Not a directory" in refused(tmp_path / "dangling")
    assert "Too many levels of symbolic links" in refused(tmp_path / "loop" / "below")
    assert "too long" in refused(tmp_path / "new" / ("x" * 300))
    assert "embedded null" in refused(tmp_path / "new" / "a\0b")
    refused(tmp_path / "file" / "two\nlines")
    refused(tmp_path / "file" / "\udc80")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_system_without_writes_is_refused():
    # Not even root may make a directory in procfs.
    refused(Path("/proc/self/tracer/output"))
    refused(Path("/proc/self"))


@pytest.mark.root
def test_a_read_only_file_system_is_refused(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        (disk / "there").mkdir()
        remount_read_only(disk)
        for output in (disk, disk / "there", disk / "new"):
            assert "Read-only file system" in refused(output)


@pytest.mark.root
def test_a_full_file_system_is_refused_and_nothing_is_left(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=64k") as disk:
        fill_up(disk / "ballast")
        # Directories and empty files can still be made on a full tmpfs.
        assert "No space left" in refused(disk / "new" / "output")
        assert list(disk.iterdir()) == [disk / "ballast"]


AS_NOBODY = """
import os, sys
from pathlib import Path
from tracer.errors import OutputError
from tracer.store.output import prepare_output

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for output in sys.argv[1:]:
    try:
        prepare_output(Path(output))
        print("writable")
    except OutputError as error:
        print(error)
"""


@pytest.mark.root
def test_a_directory_without_permission_is_refused():
    # Not tmp_path: others than its owner cannot even enter it.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "locked").mkdir(mode=0o755)
        (directory / "open").mkdir()
        (directory / "open").chmod(0o777)
        outputs = [directory / "locked", directory / "locked" / "new", directory / "open" / "new"]
        child = subprocess.run(
            [sys.executable, "-c", AS_NOBODY, *outputs],
            env={"PYTHONPATH": str(Path(__file__).parent.parent.parent)},
            capture_output=True,
            text=True,
            check=True,
        )
        existing, missing, allowed = child.stdout.splitlines()
        assert "/locked': Permission denied" in existing
        assert "/locked/new': Permission denied" in missing
        assert allowed == "writable"
        assert list((directory / "locked").iterdir()) == []


@pytest.mark.root
def test_on_a_full_disk_room_is_made_as_long_as_there_is_something_to_remove(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=1m") as disk:
        old = [disk / f"old-{number}" for number in range(3)]
        for path in old:
            path.write_bytes(bytes(1000))
        fill_up(disk / "filler")
        asked = []

        def free_space(_error: OSError, needed_bytes: int) -> bool:
            asked.append(needed_bytes)
            if not old:
                return False
            old.pop().unlink()
            return True

        assert prepare_output(disk / "results", free_space).path == disk / "results"
        assert asked == [4096] * len(asked)
        assert asked
        fill_up(disk / "more")
        old.clear()
        with pytest.raises(OutputError, match="No space left"):
            prepare_output(disk / "results", free_space)
