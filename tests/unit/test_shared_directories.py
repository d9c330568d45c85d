# SPDX-License-Identifier: Apache-2.0
"""The tracer as root where others may write: a real user plants what he can, before and meanwhile."""

import contextlib
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePath
from uuid import UUID

import msgspec
import pytest
from store_examples import MIDNIGHT_NS, SECOND_NS, closed_file, example_rows, files_below, new_store
from test_manifest import example_manifest

from tracer.errors import NodeUnsupportedError, OutputError, UsageError
from tracer.experiment.state_file import StateFile, restore_after_a_kill
from tracer.store.closed_files import closed_files
from tracer.store.directories import open_directory
from tracer.store.files import replacing, write_atomically
from tracer.store.journal import encode_frame
from tracer.store.layout import file_path
from tracer.store.manifest import Manifest
from tracer.store.open_runs import RunLock
from tracer.store.output import prepare_output
from tracer.store.recovery import recover
from tracer.store.retention import Retention
from tracer.store.schemas import WINDOWS
from tracer.store.writer import JournalOptions

pytestmark = pytest.mark.root

STRANGER = 65_534
CALLER, CALLERS_GROUP = 12_345, 12_346


@pytest.fixture(params=[0o1777, 0o777, 0o1775], ids=["like /tmp", "without the sticky bit", "of a group"])
def shared(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory of root in which the stranger may make what he likes."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        os.chown(directory, 0, STRANGER)
        directory.chmod(request.param)
        yield directory


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A directory of root's that nobody else may write to, with a file in it."""
    directory = tmp_path / "precious"
    directory.mkdir()
    (directory / "file").write_text("precious")
    return directory


def plant(command: str, *arguments: object) -> None:
    """The stranger runs a shell command."""
    subprocess.run(
        ["sh", "-c", command, "sh", *map(str, arguments)], user=STRANGER, group=STRANGER, extra_groups=[], check=True
    )


def own_manifest(run_id: UUID) -> Manifest:
    """Of a run that goes on."""
    manifest = example_manifest()
    host = msgspec.structs.replace(manifest.host, identifier="node-1")
    return msgspec.structs.replace(manifest, run_id=run_id, status="running", end=None, host=host)


def is_untouched(precious: Path) -> bool:
    return files_below(precious) == ["file"] and (precious / "file").read_text() == "precious"


@pytest.mark.parametrize("where", ["runs", "windows", "windows/dt=2026-11-22", "windows/dt=2026-11-22/identifier=n"])
@pytest.mark.parametrize("what", ["ln -s $2 $1", "mkdir $1"])
def test_links_and_directories_of_strangers_are_not_followed(what: str, where: str, shared: Path, precious: Path):
    parents = (shared / where).parent
    parents.mkdir(parents=True, exist_ok=True)
    for directory in [shared / parent for parent in PurePath(where).parents]:
        directory.chmod(0o777)
    plant(what, shared / where, precious)
    file = "session.json" if where == "runs" else "file.parquet"
    rest = PurePath(where) / ("0" if where == "runs" else "x") / file
    with pytest.raises(OSError, match=rf"{where}' is a (symbolic link|directory) of user"):
        write_atomically(shared, rest, b"ours")
    if len(parents.parts) == len(shared.parts):
        with pytest.raises(OutputError, match=r"is a (symbolic link|directory) of user .*; choose another --output"):
            prepare_output(shared)
    assert is_untouched(precious)


def test_an_output_that_a_stranger_made_first_is_refused(shared: Path, precious: Path):
    plant("ln -s $2 $1/link; mkdir $1/own; ln -s $2 $1/own/link", shared, precious)
    why = r"link' is a symbolic link of user .*, which is not followed|own' is a directory of user .*, and others may"
    for output in ("link", "link/below", "own/link", "own/link/below"):
        with pytest.raises(OutputError, match=why) as refused:
            prepare_output(shared / output)
        assert "\n" not in str(refused.value)
    assert is_untouched(precious)


def test_a_directory_that_a_stranger_made_where_everybody_may_is_refused(shared: Path):
    plant("mkdir $1/results", shared)
    if shared.stat().st_mode & stat.S_IWOTH:
        with pytest.raises(OutputError, match=r"results' is a directory of user .*, and others may make such in"):
            prepare_output(shared / "results")
    else:
        # The group was chosen; below the output it is not asked what it would do there.
        prepare_output(shared / "results")


def test_a_directory_that_is_anothers_is_fine_where_only_root_could_put_it(tmp_path: Path):
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, STRANGER, STRANGER)
    home.chmod(0o775)
    (home / "results").mkdir()
    os.chown(home / "results", STRANGER, STRANGER)
    write_atomically(home / "results", PurePath("windows/file"), b"ours")
    assert files_below(home) == ["results/windows/file"]


@pytest.mark.parametrize("how", ["ln -s $2/file $1", "mkfifo $1"])
def test_what_a_stranger_put_in_the_place_of_a_file_is_neither_followed_nor_waited_for(
    how: str, shared: Path, precious: Path
):
    plant(how, shared / "trace", precious)
    with (
        pytest.raises(OutputError, match=r"trace' is (a symbolic link of user|a pipe)") as refused,
        replacing(shared / "trace"),
    ):
        pass
    assert "\n" not in str(refused.value)
    assert is_untouched(precious)


@pytest.mark.parametrize("name", ["trace.inprogress", ".trace.inprogress", "trace.tmp"])
def test_names_that_can_be_guessed_are_not_used(name: str, shared: Path, precious: Path):
    plant("ln -s $2/file $1", shared / name, precious)
    with replacing(shared / "trace") as file:
        file.write(b"ours")
    write_atomically(shared, PurePath("runs/session.json"), b"ours")
    assert is_untouched(precious)
    assert (shared / "trace").read_bytes() == b"ours"


def test_a_file_of_a_strangers_is_replaced_and_not_written_to(shared: Path):
    plant("echo his > $1/trace; chmod 666 $1/trace; ln $1/trace $1/other", shared)
    with replacing(shared / "trace") as file:
        file.write(b"ours")
    assert (shared / "other").read_text() == "his\n"
    assert (shared / "trace").read_bytes() == b"ours"
    assert (shared / "trace").stat().st_uid == 0


def test_retention_counts_and_removes_nothing_behind_a_link(shared: Path, tmp_path: Path):
    outside = file_path(tmp_path, "windows", "n", MIDNIGHT_NS, UUID(int=1), 0)
    outside.parent.mkdir(parents=True)
    outside.write_bytes(closed_file(2000, UUID(int=1)))
    plant("ln -s $2/windows $1/windows; mkdir $1/ticks; ln -s $2/windows/* $1/ticks", shared, tmp_path)
    assert closed_files(shared, "n") == []
    new = file_path(shared, "health", "n", MIDNIGHT_NS, UUID(int=2), 0)
    Retention(shared, "n", 100, "delete-oldest", node_name="node-1").write_closed_file(new, bytes(100))
    assert outside.exists()


SWAPPED_BEFORE_REMOVAL = """
import errno, os, sys
from pathlib import Path
from tracer.store.retention import Retention

shared, outside = map(Path, sys.argv[1:3])
swapped = []

def swap(event, arguments):
    if event == "os.remove" and not swapped:
        swapped.append(True)
        os.rename(shared / "windows", shared / "moved")
        os.symlink(outside / "windows", shared / "windows")

sys.addaudithook(swap)
retention = Retention(shared, "n", 100_000, "delete-oldest", node_name="node-1")
assert retention.free_space(OSError(errno.EDQUOT, "full"), 1500)
assert swapped
"""


def test_retention_stays_in_the_output_that_is_swapped_meanwhile(shared: Path, tmp_path: Path):
    for top in (shared, tmp_path):
        for second in range(2):
            path = file_path(top, "windows", "n", MIDNIGHT_NS + second * SECOND_NS, UUID(int=1), second)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(closed_file(2000, UUID(int=1)))
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", SWAPPED_BEFORE_REMOVAL, shared, tmp_path], env=environment, check=True)
    assert len(files_below(tmp_path / "windows")) == 2
    assert len(files_below(shared / "moved")) == 1


@contextlib.contextmanager
def locked_by_stranger(directory: Path) -> Iterator[None]:
    """The stranger locks all that he can open there, from the directory itself down."""
    program = (
        "import fcntl, os, sys\n"
        "held = []\n"
        "for path, _directories, files in os.walk(sys.argv[1]):\n"
        "    for name in ('.', *files):\n"
        "        try:\n"
        "            held.append(os.open(os.path.join(path, name), os.O_RDONLY))\n"
        "        except OSError:\n"
        "            continue\n"
        "        fcntl.flock(held[-1], fcntl.LOCK_SH)\n"
        "print(len(held), flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, directory], user=STRANGER, group=STRANGER, extra_groups=[],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) > 0
        yield


def test_a_lock_of_a_strangers_stops_neither_a_run_nor_its_recovery(shared: Path):
    run_id = UUID(int=1)
    notes: list[str] = []
    prepare_output(shared)
    store = new_store(shared, run_id=run_id, journal=JournalOptions(sync=False, note=notes.append))
    store.write_manifest(own_manifest(run_id))
    with locked_by_stranger(shared):
        assert RunLock.take(shared, run_id) is None
        store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS]))
    store.append(WINDOWS, example_rows(WINDOWS, [MIDNIGHT_NS + SECOND_NS]))
    assert recover(shared).live == [run_id]
    assert notes == []
    # Killed.
    assert store._lock is not None
    store._lock.close()
    with locked_by_stranger(shared):
        assert recover(shared).runs[0].rows == {"windows": 2}


def test_who_may_read_a_run_sees_whether_it_is_live(shared: Path):
    program = (
        "import sys; from pathlib import Path; from uuid import UUID; from tracer.store.open_runs import is_open;"
        "print(is_open(Path(sys.argv[1]), UUID(int=1)))"
    )
    shared.chmod(0o1777)
    for is_live in (True, False):
        lock = RunLock.take(shared, UUID(int=1), make=True, mode=0o644)
        assert lock is not None
        if not is_live:
            lock.close()
        said = subprocess.run(
            [sys.executable, "-c", program, shared], user=STRANGER, group=STRANGER, extra_groups=[], text=True,
            env={"PYTHONPATH": str(Path(__file__).parents[2])}, stdout=subprocess.PIPE, check=True,
        ).stdout  # fmt: skip
        assert said == f"{is_live}\n"
        if is_live:
            lock.close()


PLANTED = {
    "runs": "ln -s $2 $1/runs",
    "a run": "ln -s $2 $1/runs/00000000-0000-0000-0000-000000000001",
    "a run of his": "mkdir -p $1/runs/00000000-0000-0000-0000-000000000001/journal",
    "journals": "ln -s $2 $1/runs/00000000-0000-0000-0000-000000000001/journal",
    "journals of his": "mkdir $1/runs/00000000-0000-0000-0000-000000000001/journal",
    "a journal": "ln -s $2/file $1/runs/00000000-0000-0000-0000-000000000001/journal/windows-000000.journal",
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_recovery_stays_in_the_output(planted: str, shared: Path, precious: Path):
    place = next(argument for argument in planted.split() if argument.startswith("$1")).removeprefix("$1/")
    (shared / place).parent.mkdir(parents=True, exist_ok=True)
    for directory in [shared, *(shared / parent for parent in PurePath(place).parents)]:
        directory.chmod(0o777)
    plant(planted, shared, precious)
    if not (shared / "runs").is_symlink():
        for name in ("windows-000000.journal", "session.json"):
            (precious / name).write_bytes(encode_frame(example_rows(WINDOWS, [MIDNIGHT_NS])))
    before = files_below(precious)
    with contextlib.suppress(UsageError):
        found = recover(shared)
        assert found.runs == []
    assert files_below(precious) == before
    assert (precious / "file").read_text() == "precious"
    assert not (shared / "windows").exists()


def test_a_directory_that_is_open_stays_the_one_that_was_looked_at(shared: Path, precious: Path):
    (shared / "results").mkdir()
    with open_directory(shared / "results") as directory:
        (shared / "results").rename(shared / "moved")
        plant("ln -s $2 $1/results", shared, precious)
        with directory.child("windows", make=True):
            pass
    assert (shared / "moved" / "windows").is_dir()
    assert is_untouched(precious)


def test_under_sudo_all_that_is_made_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SUDO_UID", str(CALLER))
    monkeypatch.setenv("SUDO_GID", str(CALLERS_GROUP))
    (tmp_path / "before").mkdir()
    prepare_output(tmp_path / "before" / "a" / "results")
    write_atomically(tmp_path / "before" / "a" / "results", PurePath("windows/file"), b"ours")
    with replacing(tmp_path / "page.html") as file:
        file.write(b"page")
    owned = {
        str(path.relative_to(tmp_path))
        for path in tmp_path.rglob("*")
        if (path.stat().st_uid, path.stat().st_gid) == (CALLER, CALLERS_GROUP)
    }
    assert owned == {
        "before/a",
        "before/a/results",
        "before/a/results/windows",
        "before/a/results/windows/file",
        "page.html",
    }
    # What he made himself, he may have made a link.
    (tmp_path / "link").symlink_to("before")
    os.chown(tmp_path / "link", CALLER, CALLERS_GROUP, follow_symlinks=False)
    write_atomically(tmp_path / "link", PurePath("runs/file"), b"ours")


@pytest.mark.parametrize("uid", ["", "0", "-1", "abc", "4294967295", "9" * 40, "١"])
def test_a_caller_who_is_none_gets_nothing(uid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SUDO_UID", uid)
    monkeypatch.setenv("SUDO_GID", "0")
    write_atomically(tmp_path, PurePath("a/file"), b"ours")
    assert (tmp_path / "a" / "file").stat().st_uid == 0


@pytest.mark.parametrize(
    "what", ['echo "!{}" > $1', "mkfifo $1", "ln -s $2/file $1", "mkdir $1"], ids=["file", "pipe", "link", "directory"]
)
def test_what_a_stranger_says_an_experiment_left_is_not_restored(what: str, shared: Path, precious: Path):
    plant(what, shared / "verify.json", precious)
    for use in (StateFile.lock, restore_after_a_kill):
        with pytest.raises(NodeUnsupportedError, match=r"cannot keep a state file in") as refused:
            use(shared)
        assert "\n" not in str(refused.value)
    assert is_untouched(precious)
