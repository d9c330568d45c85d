# SPDX-License-Identifier: Apache-2.0
import io
import sys
from pathlib import Path
from types import FrameType

import pytest
from store_examples import files_below

from tracer.store.files import make_directories, write_atomically


def test_a_file_appears_with_its_directories_and_replaces_the_one_before(tmp_path: Path):
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"one")
    assert path.read_bytes() == b"one"
    write_atomically(path, memoryview(b"two"))
    assert path.read_bytes() == b"two"
    assert files_below(tmp_path) == ["a/b/file"]


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a" / "file"
    (path / "occupied").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        write_atomically(path, b"one")
    assert files_below(tmp_path) == []
    assert (path / "occupied").is_dir()


def test_a_file_in_progress_of_somebody_else_is_not_touched(tmp_path: Path):
    theirs = tmp_path / "file.inprogress"
    theirs.write_bytes(b"theirs")
    with pytest.raises(FileExistsError):
        write_atomically(tmp_path / "file", b"ours")
    assert theirs.read_bytes() == b"theirs"
    assert files_below(tmp_path) == ["file.inprogress"]


def test_a_directory_that_is_removed_before_the_file_is_in_it_is_made_again(tmp_path: Path):
    path = tmp_path / "a" / "file"
    removals: list[Path] = []

    def remove_once(_frame: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function is io.open and not removals:
            removals.append(path.parent)
            path.parent.rmdir()

    sys.setprofile(remove_once)
    try:
        write_atomically(path, b"one")
    finally:
        sys.setprofile(None)
    assert removals == [path.parent]
    assert path.read_bytes() == b"one"


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_directories(tmp_path / "file")
    with pytest.raises(NotADirectoryError):
        make_directories(tmp_path / "file" / "below")
