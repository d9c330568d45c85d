# SPDX-License-Identifier: Apache-2.0
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from upload_examples import finished_run, rows_here, rows_there

from tracer.cli.run import default_options
from tracer.cli.run_options import parse_options
from tracer.cli.upload import upload as upload_command
from tracer.errors import UsageError


def upload(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tracer.cli.main", "upload", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_what_lies_in_a_directory_is_uploaded_once(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    finished_run(output)
    done = upload(output, f"file://{target}")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"uploaded to file://{target}: 400 rows in 4 files, 0.")
    assert rows_there(target) == rows_here(output)
    again = upload(output, f"file://{target}/", "--upload-rate", "1MiB")
    assert (again.returncode, again.stdout) == (0, f"uploaded to file://{target}: 0 rows in 0 files, 0.0 MB\n")


def test_damaged_files_are_named_and_the_exit_code_says_so(tmp_path: Path):
    output, target = tmp_path / "results", tmp_path / "store"
    finished_run(output)
    first = min(output.glob("windows/dt=*/identifier=*/*.parquet"))
    first.write_bytes(b"PAR1")
    done = upload(output, f"file://{target}")
    assert done.returncode == 4
    named, error = done.stderr.splitlines()
    assert named.startswith(f"tracer: {first.relative_to(output)} is not uploaded, as it cannot be read: ")
    assert error.endswith("not uploaded, as they cannot be read: 1 files; they are named above")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("no-such", "s3://bucket"), "is not a directory"),
        ((".", "s3://bucket"), "holds no run of `tracer run`"),
        (("results", "http://host"), "no kind of URL 'http'"),
        (("results", "file:///{}/results/x"), "apart from the results"),
        (("results", "file:///x", "fast"), "--upload-rate: not a size: 'fast'"),
        (("results", "file:///x", "0"), "--upload-rate must be more than 0"),
    ],
)
def test_mistakes_are_refused_by_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], says: str
):
    (tmp_path / "results" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    directory, url, *rate = (argument.replace("{}", str(tmp_path).strip("/")) for argument in arguments)
    with pytest.raises(UsageError, match=re.escape(says)):
        upload_command(Path(directory), url, rate[-1] if rate else None)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"upload": "nowhere"}, "no kind of URL 'nowhere'"),
        ({"upload": "s3://"}, "names no bucket"),
        ({"upload-rate": "1MiB"}, "--upload-rate needs --upload"),
        ({"upload": "s3://bucket", "upload-rate": "1KiB"}, "--upload-rate must be at least 10KiB"),
    ],
)
def test_a_run_is_refused_before_it_starts(given: dict[str, Any], says: str):
    with pytest.raises(UsageError, match=says):
        parse_options(default_options() | given)


def test_a_run_with_a_store_and_a_rate():
    options = parse_options(default_options() | {"upload": "s3://bucket/prefix", "upload-rate": "2MiB"})
    assert (options.upload, options.upload_bytes_per_second) == ("s3://bucket/prefix", 2 << 20)
