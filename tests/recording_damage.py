# SPDX-License-Identifier: Apache-2.0
"""Recordings that are damaged, or made by somebody who means harm, and commands that must bear them.

A command runs in a process of its own, within a bound of memory, and must end in time with one of the codes that
`tracer.errors` has for what a user may meet, and without a traceback. The processes are forked from one that has
imported all that takes long.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

MEMORY_BYTES = 6 << 30
"""Of address space, of which most is never touched: `tracer.cli.address_space` asks for more than half of it."""

_TIMEOUT_SECONDS = 240
_ALLOWED = (0, 2, 4)
_SIGNS_OF_A_DEFECT = ("Traceback (most recent call last)", "panicked at", "Segmentation fault", "memory allocation of")

_FORKED_FROM = """
import os, resource, signal, sys

import tracer.analysis.comparison.compare, tracer.analysis.perfetto, tracer.analysis.pictures.page
import tracer.analysis.pictures.picture, tracer.analysis.report, tracer.cli.main, tracer.cli.report_text
import tracer.cli.comparison_text
from tracer.cli.streams import open_standard_streams

for line in sys.stdin:
    output, *arguments = line.rstrip("\\n").split("\\t")
    child = os.fork()
    if not child:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]), int(sys.argv[1])))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(int(sys.argv[2]))
        open_standard_streams()
        sys.argv = ["tracer", *arguments]
        tracer.cli.main.main()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended: a signal's number is below zero."""

    code: int
    output: str

    @property
    def defect(self) -> str | None:
        """What a user must not meet; None if all is well."""
        if self.code not in _ALLOWED:
            return f"exit code {self.code}"
        found = next((sign for sign in _SIGNS_OF_A_DEFECT if sign in self.output), None)
        # It is no terminal that this is printed to: what does not print is from the recording.
        hostile = next((repr(one) for one in self.output if not one.isprintable() and one != "\n"), None)
        return found or (hostile and f"{hostile} is printed")


class Commands:
    """Runs `tracer` commands within bounds; what they print goes to a file in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._output = directory / "output-of-the-command"
        self._process = subprocess.Popen(
            [sys.executable, "-c", _FORKED_FROM, str(MEMORY_BYTES), str(_TIMEOUT_SECONDS)],
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parent.parent),
                "COLUMNS": "100",
                "OPENBLAS_NUM_THREADS": "1",
                "POLARS_MAX_THREADS": "2",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        # It closes the pipes, and waits.
        with self._process:
            pass

    def run(self, *arguments: object) -> Ended:
        """Of a command and its options; ended by SIGALRM where it takes minutes."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write("\t".join([str(self._output), *map(str, arguments)]) + "\n")
        stdin.flush()
        code = int(stdout.readline())
        return Ended(code, self._output.read_text(errors="replace"))


def commands_on(recording: Path, written: Path) -> list[tuple[object, ...]]:
    """All commands that read a recording; files are written below `written`."""
    kinds = ("timeline", "density", "matrix", "heatmap", "resources", "waits")
    return [
        ("report", recording),
        ("report", "--json", "--html", written / "page.html", recording),
        ("compare", recording, recording),
        ("export", "--perfetto", written / "trace", recording),
        *(("plot", "--kind", kind, "--output", written / f"{kind}.svg", recording) for kind in kinds),
    ]


Damage = Callable[[Path, random.Random], None]


def damage(recording: Path, generator: random.Random) -> str:
    """Damages a recording in one to three ways; says in which."""
    chosen = [generator.choice(DAMAGES) for _ in range(generator.randint(1, 3))]
    done = []
    for one in chosen:
        if any(_files(recording)):
            # What is damaged already may not be read.
            with suppress(OSError, ValueError, OverflowError, pa.ArrowException):
                one(recording, generator)
                done.append(one.__name__.lstrip("_"))
    return ", ".join(done)


def _files(recording: Path) -> list[Path]:
    return sorted(path for path in recording.glob("*/dt=*/identifier=*/*.parquet") if path.is_file())


def _any_file(recording: Path, generator: random.Random) -> Path:
    """Those that all commands read are chosen more often."""
    files = _files(recording)
    wanted = [path for path in files if path.parts[-4] in ("windows", "ticks", "waits")]
    return generator.choice(wanted if wanted and generator.random() < 0.7 else files)


def _cut_short(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    os.truncate(path, generator.randrange(path.stat().st_size))


def _flip_bits(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    content = bytearray(path.read_bytes())
    # Of the footer, which is at the end, or anywhere.
    begin = max(0, len(content) - 20_000) if generator.random() < 0.5 else 0
    for _ in range(generator.choice((1, 10, 1000))):
        content[generator.randrange(begin, len(content))] ^= 1 << generator.randrange(8)
    path.write_bytes(content)


def _swap(recording: Path, generator: random.Random) -> None:
    one, other = _any_file(recording, generator), _any_file(recording, generator)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _copy(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    shutil.copy(path, path.with_name(path.name.replace("-0000", "-0001")))


def _put_something_else(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    path.unlink()
    generator.choice(
        [
            lambda: os.mkfifo(path),
            path.mkdir,
            lambda: path.symlink_to("/dev/zero"),
            lambda: path.symlink_to(path.name),
            path.touch,
            lambda: path.write_bytes(generator.randbytes(1000)),
        ]
    )()


def _hostile_values(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    rows = pq.read_table(path, partitioning=None)
    for name in generator.sample(rows.column_names, min(generator.choice((1, 3, 30)), rows.num_columns)):
        position = rows.schema.get_field_index(name)
        share = generator.choice((0.01, 0.5, 1.0))
        values = rows[name].to_pylist()
        found = [value for value in values if value is not None]
        hostile = _hostile(rows.schema.field(name).type, generator)
        if hostile is None and not found:
            continue
        for row in range(len(values)):
            if generator.random() < share:
                values[row] = hostile
        rows = rows.set_column(position, rows.schema.field(name).with_nullable(True), pa.array(values, rows[name].type))
    pq.write_table(rows, path, compression="zstd", write_statistics=generator.random() < 0.9)


def _hostile(type_: pa.DataType, generator: random.Random) -> Any:
    if pa.types.is_timestamp(type_):
        return pa.scalar(generator.choice((0, -1, 4_600_000_000_000_000, 2**63 - 1, -(2**63))), pa.int64()).cast(type_)
    if pa.types.is_floating(type_):
        return generator.choice((float("nan"), float("inf"), -float("inf"), -1.0, 3e38, None))
    if pa.types.is_integer(type_):
        largest = 2 ** (type_.bit_width - 1) - 1
        return generator.choice((0, -1, 1, largest, -largest - 1, largest // 1000, 10**9, None))
    if pa.types.is_string(type_):
        return generator.choice(HOSTILE_NAMES)
    return None


HOSTILE_NAMES = (
    "",
    "x" * 100_000,
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\x1b[2J\x1b]0;owned\x07",
    "web\u202egnp.exe\u2066",
    "[bold red]markup[/] [link=file:///etc/passwd]",
    "$\\frac{1}{0}$ %s {0} {{7*7}}",
    "a\nb\r\tc\0d",
    "idle",
    "/",
    None,
)


def _shift_times(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    rows = pq.read_table(path, partitioning=None)
    for name in ("window_start", "tick_start", "time"):
        position = rows.schema.get_field_index(name)
        if position < 0:
            continue
        shifted = rows[name].cast(pa.int64()).to_pylist()
        by = generator.choice((-1, 1)) * generator.choice((10**6, 86_400 * 10**6, 40 * 365 * 86_400 * 10**6))
        type_ = rows[name].type
        rows = rows.set_column(position, rows.schema.field(name), pa.array([one + by for one in shifted]).cast(type_))
        moved = path
        if generator.random() < 0.7 and min(shifted) + by >= 0:
            start = time.gmtime((min(shifted) + by) // 10**6)
            table, _start, rest = path.name.split("-", 2)
            day = recording / path.parts[-4] / time.strftime("dt=%Y-%m-%d", start)
            moved = day / path.parts[-2] / f"{table}-{time.strftime('%Y%m%dT%H%M%SZ', start)}-{rest}"
            moved.parent.mkdir(parents=True, exist_ok=True)
            path.unlink()
        pq.write_table(rows, moved, compression="zstd")
        return


def _drop_or_cast_columns(recording: Path, generator: random.Random) -> None:
    path = _any_file(recording, generator)
    rows = pq.read_table(path, partitioning=None)
    for name in generator.sample(rows.column_names, 3):
        if generator.random() < 0.5:
            rows = rows.drop_columns([name])
        else:
            position = rows.schema.get_field_index(name)
            rows = rows.set_column(position, name, pa.array(["7"] * rows.num_rows))
    pq.write_table(rows, path, compression="zstd")


def _unfold(recording: Path, generator: random.Random) -> None:
    """A row ten million times, which takes little room."""
    path = _any_file(recording, generator)
    first = pq.read_table(path, partitioning=None).slice(0, 1)
    if not first.num_rows:
        return
    many = pa.concat_tables([first] * 1000).combine_chunks()
    with pq.ParquetWriter(path, many.schema, compression="zstd") as writer:
        for _ in range(generator.choice((1, 100, 1000))):
            writer.write_table(many)


def _change_manifest(recording: Path, generator: random.Random) -> None:
    paths = sorted(recording.glob("runs/*/session.json"))
    if not paths:
        return
    path = generator.choice(paths)
    if generator.random() < 0.2:
        os.truncate(path, generator.randrange(path.stat().st_size))
        return
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return
    for _ in range(generator.choice((1, 5, 20))):
        where: Any = content
        while True:
            key = generator.choice(list(where) if isinstance(where, dict) else range(len(where)))
            if not isinstance(where[key], dict | list) or not where[key] or generator.random() < 0.1:
                break
            where = where[key]
        hostile = (0, -1, 1, 10**9, 2**63 - 1, 2**64, 10**30, 1e308, None, True, [], {}, "0-99999999", *HOSTILE_NAMES)
        where[key] = generator.choice(hostile)
        if not content:
            break
    path.write_text(json.dumps(content))


DAMAGES: Sequence[Damage] = (
    _cut_short, _flip_bits, _flip_bits, _swap, _copy, _put_something_else, _hostile_values, _hostile_values,
    _hostile_values, _shift_times, _drop_or_cast_columns, _unfold, _change_manifest, _change_manifest,
)  # fmt: skip


def _tag_in(written: Path) -> str | None:
    """A tag that a name brought into a page or a picture."""
    for path in [*written.glob("*.html"), *written.glob("*.svg")]:
        text = path.read_text(errors="replace")
        for name in HOSTILE_NAMES:
            if name and "<" in name and name in text:
                return f"{path.name} has {name!r} in it"
    return None


def try_one(commands: Commands, recording: Path, copy: Path, seed: int, *, everything: bool) -> list[str]:
    """Damages a copy of `recording` as `seed` has it, and runs one command on it, or all; says what went wrong."""
    generator = random.Random(seed)
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(recording, copy)
    what = damage(copy, generator)
    written = copy.with_name("written")
    written.mkdir(exist_ok=True)
    chosen = commands_on(copy, written)
    wrong = []
    for arguments in chosen if everything else [generator.choice(chosen)]:
        ended = commands.run(*arguments)
        if not ended.defect and (tag := _tag_in(written)):
            wrong.append(f"seed {seed} ({what}): {tag}")
        if ended.defect:
            command = " ".join(map(str, arguments))
            how = signal.Signals(-ended.code).name if ended.code < 0 else ended.defect
            wrong.append(f"seed {seed} ({what}): tracer {command}: {how}\n{ended.output[-3000:]}")
    return wrong
