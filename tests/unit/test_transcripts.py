# SPDX-License-Identifier: Apache-2.0
"""What commands print, in terminals of 80, 60 and 40 columns and through a pipe, against recorded transcripts.

After a change of what is printed, `pytest tests/unit/test_transcripts.py --update-transcripts` records them anew.
"""

import fcntl
import os
import struct
import termios
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from rich.cells import cell_len
from transcript_scenes import SHORT_TITLES, Scene, make_scenes

TRANSCRIPTS = Path(__file__).parent / "data" / "transcripts"
# None is a pipe.
WIDTHS = (None, 80, 60, 40)
# By scene, then by width.
Shown = Mapping[str, Mapping[int | None, Sequence[str]]]
NAMES = ("report-caches", "report-waits", "report-pressure", "compare", "ps", "ps-flat", "doctor", "help", "verify")
NEVER_BROKEN = ("ps-flat",)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    return make_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def shown(scenes: Mapping[str, Scene]) -> Shown:
    with pytest.MonkeyPatch.context() as environment:
        environment.delenv("COLUMNS", raising=False)
        environment.setenv("NO_COLOR", "1")
        return {name: {width: lines_of(scene.show, width) for width in WIDTHS} for name, scene in scenes.items()}


def lines_of(show: Callable[[], None], width: int | None) -> list[str]:
    """What `show` prints in a terminal as wide as that, or through a pipe."""
    reading, writing = os.pipe() if width is None else os.openpty()
    if width is not None:
        fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    written = bytearray()
    reader = threading.Thread(target=_read, args=(reading, written))
    reader.start()
    with os.fdopen(writing, "w", encoding="utf-8") as file, redirect_stdout(file):
        show()
    reader.join()
    os.close(reading)
    return written.decode().replace("\r\n", "\n").removesuffix("\n").split("\n")


def _read(descriptor: int, written: bytearray) -> None:
    try:
        while chunk := os.read(descriptor, 2**16):
            written += chunk
    except OSError:
        # So ends a terminal that nobody writes to any more.
        return


def test_every_scene_is_looked_at(scenes: Mapping[str, Scene]) -> None:
    assert tuple(scenes) == NAMES
    assert {path.stem for path in TRANSCRIPTS.iterdir()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_as_recorded(name: str, shown: Shown, request: pytest.FixtureRequest) -> None:
    parts = []
    for width, lines in shown[name].items():
        parts += [f"==== {'pipe' if width is None else f'terminal of {width} columns'} ====", *lines]
    text = "\n".join(parts) + "\n"
    path = TRANSCRIPTS / f"{name}.txt"
    if request.config.getoption("--update-transcripts"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", NAMES)
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(name: str, shown: Shown) -> None:
    for width, lines in shown[name].items():
        assert [line for line in lines if line != line.rstrip() or "\x1b" in line] == []
        if width is not None and name not in NEVER_BROKEN:
            assert [line for line in lines if cell_len(line) > width and not _is_of_a_command(line)] == []


def _is_of_a_command(line: str) -> bool:
    """A command is parted between words only, as it is to be copied."""
    return len(line.removesuffix(" \\").split()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_column_has_its_title(name: str, shown: Shown, scenes: Mapping[str, Scene]) -> None:
    for lines in shown[name].values():
        titles = " ".join(line for line in lines if line.isupper())
        titles = " ".join(titles.split())
        missing = [one for one in scenes[name].titles if f" {one} " not in f" {titles} "]
        assert [one for one in missing if f" {SHORT_TITLES.get(one, one)} " not in f" {titles} "] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_broken(name: str, shown: Shown, scenes: Mapping[str, Scene]) -> None:
    """Each stands as often in a narrow terminal as in a pipe, whole, or with its middle cut out."""
    for lines in shown[name].values():
        for one in scenes[name].names:
            times = [sum(line.count(one) + _cut(line, one) for line in some) for some in (shown[name][None], lines)]
            assert times[0] == times[1] > 0


def _cut(line: str, name: str) -> int:
    ends = [word.strip(",.:;()").partition("…") for word in line.split() if "…" in word]
    return sum(name.startswith(first) and name.endswith(last) and len(first) > 3 for first, _mark, last in ends)


@pytest.mark.parametrize("name", ["report-caches", "report-waits", "report-pressure", "compare", "ps-flat"])
def test_a_pipe_gets_a_line_for_each_row(name: str, shown: Shown) -> None:
    """So there is nothing that a line goes on with: none begins with more blanks than tables and lists do."""
    assert [line for line in shown[name][None] if line.startswith("    ") and line.strip()[:1].islower()] == []
    assert max(map(len, shown[name][None])) > 80


def test_colours_are_for_terminals_whose_user_wants_them(
    scenes: Mapping[str, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    coloured = lines_of(scenes["doctor"].show, 80)
    assert [line for line in coloured if "\x1b[" in line]
    assert not [line for line in lines_of(scenes["doctor"].show, None) if "\x1b" in line]
    monkeypatch.setenv("NO_COLOR", "1")
    assert not [line for line in lines_of(scenes["doctor"].show, 80) if "\x1b" in line]


def test_columns_are_what_the_environment_says(scenes: Mapping[str, Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    for width in WIDTHS:
        lines = lines_of(scenes["verify"].show, width)
        assert 40 < max(map(cell_len, lines)) <= 50
    for nonsense in ("", "0", "-3", "many", "9" * 5000):
        monkeypatch.setenv("COLUMNS", nonsense)
        assert max(map(cell_len, lines_of(scenes["verify"].show, None))) > 80
