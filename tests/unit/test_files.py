# SPDX-License-Identifier: Apache-2.0
import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePath

import pytest
from store_examples import files_below, fill_up, mounted_tmpfs

from tracer.errors import OutputError
from tracer.store import files
from tracer.store.files import replacing, write_atomically


@pytest.fixture(params=["a file without a name", "a file with a name"], autouse=True)
def _file_systems(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As most have it, and as a file system does that knows no O_TMPFILE."""
    if request.param == "a file with a name":
        monkeypatch.setattr(files, "_OPEN_FILES", Path("/nowhere"))


def test_a_file_appears_with_its_directories_and_replaces_the_one_before(tmp_path: Path):
    path = PurePath("a/b/file")
    write_atomically(tmp_path, path, b"one")
    assert (tmp_path / path).read_bytes() == b"one"
    write_atomically(tmp_path, path, memoryview(b"two"))
    assert (tmp_path / path).read_bytes() == b"two"
    assert files_below(tmp_path) == ["a/b/file"]


def test_a_failure_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a" / "file"
    (path / "occupied").mkdir(parents=True)
    with pytest.raises(OSError, match=r"a directory"):
        write_atomically(tmp_path, PurePath("a/file"), b"one")
    assert files_below(tmp_path) == []
    assert (path / "occupied").is_dir()


def test_a_directory_that_is_removed_before_the_file_is_in_it_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    open_new = files._open_new
    removals: list[Path] = []

    def remove_once(directory: files.Directory) -> tuple[int, str | None]:
        if not removals:
            removals.append(tmp_path / "a")
            removals[0].rmdir()
        return open_new(directory)

    monkeypatch.setattr(files, "_open_new", remove_once)
    write_atomically(tmp_path, PurePath("a/file"), b"one")
    assert removals
    assert (tmp_path / "a" / "file").read_bytes() == b"one"


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        write_atomically(tmp_path, PurePath("file/below"), b"one")
    with pytest.raises(NotADirectoryError):
        write_atomically(tmp_path / "file", PurePath("below"), b"one")


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_modes_are_the_same_whatever_the_umask(umask: int, tmp_path: Path):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path, PurePath("a/file"), b"one")
        with replacing(tmp_path / "page.html") as file:
            file.write(b"page")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "a" / "file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "page.html").stat().st_mode) == 0o644


@pytest.mark.parametrize(("mode", "of_directories"), [(0o600, 0o700), (0o644, 0o755), (0o604, 0o705)])
def test_directories_can_be_searched_by_who_may_read_files(mode: int, of_directories: int, tmp_path: Path):
    write_atomically(tmp_path, PurePath("a/b/file"), b"one", mode=mode)
    found = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/file")]
    assert found == [of_directories, of_directories, mode]


def test_a_group_that_a_directory_hands_on_is_kept(tmp_path: Path):
    tmp_path.chmod(0o2755)
    write_atomically(tmp_path, PurePath("a/file"), b"one")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o2750


def _bind_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize(
    ("make", "kind"), [(os.mkfifo, "a pipe"), (os.mkdir, "a directory"), (_bind_socket, "a socket")]
)
def test_what_is_no_file_is_neither_written_to_nor_replaced(
    make: Callable[[Path], None], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    make(Path("there"))
    inode = Path("there").lstat().st_ino
    with (
        pytest.raises(OutputError, match=rf"'{tmp_path}/there' is {kind}, which is left as it is"),
        replacing(Path("there")),
    ):
        pass
    assert Path("there").lstat().st_ino == inode
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.root
def test_a_device_is_neither_written_to_nor_replaced(tmp_path: Path):
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with pytest.raises(OutputError, match=r"is a device"), replacing(tmp_path / "null"):
        pass
    assert (tmp_path / "null").is_char_device()


def test_another_name_of_the_file_stays_as_it_is(tmp_path: Path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "page").hardlink_to(tmp_path / "precious")
    with replacing(tmp_path / "page") as file:
        file.write(b"page")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "page").read_text() == "page"


def test_ones_own_links_lead_where_they_lead(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "results").symlink_to("real")
    (tmp_path / "latest.html").symlink_to("real/page.html")
    write_atomically(tmp_path / "results", PurePath("a/file"), b"one")
    for content in (b"page", b"newer"):
        with replacing(tmp_path / "latest.html") as file:
            file.write(content)
        assert (tmp_path / "real" / "page.html").read_bytes() == content
    assert files_below(tmp_path) == ["latest.html", "real/a/file", "real/page.html"]


def test_a_link_below_the_output_is_not_followed(tmp_path: Path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "windows").symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match=r"windows' is a symbolic link of user .*, not a directory"):
        write_atomically(tmp_path / "output", PurePath("windows/file"), b"one")
    assert files_below(tmp_path / "outside") == []


@pytest.mark.parametrize("path", ["", "/", "missing/page", "page/below", "a\0b", "x" * 300, "loop", "/proc/self/page"])
def test_where_no_file_can_be_is_one_line(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match=r"cannot write .*: .") as refused, replacing(Path(path)):
        pass
    assert str(refused.value).isprintable()
    assert files_below(tmp_path) == ["loop", "page"]


def test_the_longest_name_that_a_file_can_have(tmp_path: Path):
    with replacing(tmp_path / ("x" * 255)) as file:
        file.write(b"page")
    assert files_below(tmp_path) == ["x" * 255]


def test_what_fails_half_way_leaves_the_file_before(tmp_path: Path):
    (tmp_path / "page").write_text("before")

    def draw() -> None:
        with replacing(tmp_path / "page") as file:
            file.write(bytes(1_000_000))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw()
    assert (tmp_path / "page").read_text() == "before"
    assert files_below(tmp_path) == ["page"]


@pytest.mark.root
def test_a_full_disk_leaves_the_file_before(tmp_path: Path):
    with mounted_tmpfs(tmp_path / "disk", "size=64k") as disk:
        (disk / "page").write_text("before")
        fill_up(disk / "ballast")
        with pytest.raises(OutputError, match=os.strerror(errno.ENOSPC)), replacing(disk / "page") as file:
            file.write(bytes(1_000_000))
        assert (disk / "page").read_text() == "before"
        assert files_below(disk) == ["ballast", "page"]


ENDED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from tracer.store.files import replacing

with replacing(Path(sys.argv[1])) as file:
    file.write(bytes(1_000_000))
    os.kill(os.getpid(), int(sys.argv[2]))
    file.write(bytes(1_000_000))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_who_is_killed_while_writing_leaves_the_file_before(number: int, tmp_path: Path):
    (tmp_path / "page").write_text("before")
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    arguments = [sys.executable, "-c", ENDED_WHILE_WRITING, tmp_path / "page", str(int(number))]
    assert subprocess.run(arguments, env=environment, check=False).returncode == -number
    assert (tmp_path / "page").read_text() == "before"
    assert files_below(tmp_path) == ["page"]
