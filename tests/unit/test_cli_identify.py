# SPDX-License-Identifier: Apache-2.0
"""`tracer identify`, run as a program of its own."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tracer.cli.identify import identify

ID = "0123456789abcdef" * 4
PROGRAM = (
    "import sys, typer; from tracer.cli.identify import identify; app = typer.Typer(); "
    "app.command()(identify); app(standalone_mode=False); "
    "sys.exit('polars was imported' if 'polars' in sys.modules else 0)"
)


def run(*paths: str | bytes, stdin: bytes = b"") -> list[dict[str, Any]]:
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths],
        input=stdin,
        capture_output=True,
        check=False,
        env=os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    )
    assert (finished.returncode, finished.stderr) == (0, b"")
    return [json.loads(line) for line in finished.stdout.splitlines()]


def test_one_json_line_a_path() -> None:
    path = f"/kubepods/besteffort/pod63b3ebfc-2890-11e9-8154-16bf8ef8d9dc/crio-{ID}/container"
    assert run(path, "/init.scope") == [
        {
            "path": path,
            "kind": "container",
            "runtime": "cri-o",
            "container_id": ID,
            "container_name": None,
            "pod_uid": "63b3ebfc-2890-11e9-8154-16bf8ef8d9dc",
            "qos_class": "besteffort",
            "subpath": "container",
        },
        {
            "path": "/init.scope",
            "kind": "unit",
            "runtime": None,
            "container_id": None,
            "container_name": None,
            "pod_uid": None,
            "qos_class": None,
            "subpath": "",
        },
    ]


def test_paths_from_standard_input() -> None:
    stdin = b"/a.service\r\n\n/\xff\x1b[31m\n/caf\xc3\xa9.slice"
    lines = run("/", "-", "/kubepods", stdin=stdin)
    assert [(line["path"], line["kind"]) for line in lines] == [
        ("/", "other"),
        ("/a.service", "unit"),
        ("/\\xff\\x1b[31m", "other"),
        ("/café.slice", "unit"),
        ("/kubepods", "qos"),
    ]


def test_hostile_argument() -> None:
    (line,) = run(b"/docker/" + ID.encode() + b"/../\xff\xfe\n\x1b[2J" + b"y" * 255)
    assert line["container_id"] == ID
    assert line["subpath"] == "../\\xff\\xfe\\n\\x1b[2J" + "y" * 255


def test_no_path_is_a_usage_error() -> None:
    app = typer.Typer()
    app.command()(identify)
    assert CliRunner().invoke(app, []).exit_code == 2


@pytest.mark.parametrize("redirection", ["<&-", "0>/dev/null"], ids=["closed", "write-only"])
def test_standard_input_that_cannot_be_read_is_a_usage_error(redirection: str) -> None:
    program = (
        "from tracer.cli.identify import identify\n"
        "from tracer.errors import UsageError\n"
        "try:\n    identify(['-'])\nexcept UsageError as error:\n    print(error)\n"
    )
    finished = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {redirection}', sys.executable, program],
        capture_output=True,
        check=True,
        text=True,
    )
    assert finished.stdout.startswith("cannot read standard input: ")
