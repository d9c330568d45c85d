# SPDX-License-Identifier: Apache-2.0
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

REPOSITORY = Path(__file__).parents[2]
LOCK_FILES = (
    "requirements.lock",
    "requirements-build.lock",
    "requirements-dev.lock",
    "requirements-engines.lock",
    "requirements-upload.lock",
)
OLDER, NEWER = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"

pytest_plugins = ["pytester"]


def write_run(output: Path, run_id: str, start_ns: int, rows: list[dict[str, Any]]) -> None:
    manifest = output / "runs" / run_id / "session.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"run_id": run_id, "start": {"utc_ns": start_ns}}))
    defaults: dict[str, Any] = {
        "window_start": start_ns,
        "node_name": "node",
        "cgroup_id": 7,
        "cgroup_kind": "other",
        "cgroup_path": None,
        "container_id": None,
        "container_name": None,
        "pod_name": None,
        "pod_uid": None,
        "namespace": None,
        "cpu_time_ns": 1_000_000,
        "context_switches": 1,
        "cycles": None,
        "instructions": None,
        "llc_misses": None,
    }
    path = output / "windows" / "dt=2025-01-01" / "identifier=node" / f"windows-{start_ns}-{run_id[:8]}-000000.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    strings = {
        name: pl.String
        for name in defaults
        if name.endswith(("_name", "_path", "_kind", "container_id", "_uid", "namespace"))
    }
    counters = dict.fromkeys(("cycles", "instructions", "llc_misses"), pl.UInt64)
    pl.DataFrame([defaults | row for row in rows], schema_overrides=strings | counters).write_parquet(path)


def busiest(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(REPOSITORY / "scripts" / "busiest.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def table(result: "subprocess.CompletedProcess[str]") -> list[str]:
    """The lines below the heading."""
    assert result.returncode == 0, result.stderr
    lines = result.stdout.split("\n\n")[1].splitlines()
    assert max(map(len, lines)) <= 80
    return lines[1:]


def test_busiest_sums_and_sorts_the_newest_run_only(tmp_path: Path) -> None:
    counted = {"cycles": 300, "instructions": 200, "llc_misses": 1000}
    write_run(tmp_path, NEWER, 20, [
        {"cgroup_id": 0, "cgroup_kind": "idle", "cpu_time_ns": 14_000_000},
        {"cgroup_id": 1, "cgroup_path": "/quiet"},
        {"cgroup_id": 2, "cgroup_path": "/busy", "context_switches": 40, **counted},
        {"cgroup_id": 2, "cgroup_path": "/busy", "cpu_time_ns": 4_000_000, **counted},
    ])  # fmt: skip
    write_run(tmp_path, OLDER, 10, [{"cgroup_id": 3, "cgroup_path": "/gone", "cpu_time_ns": 10**12}])

    result = busiest(tmp_path)

    assert [line.split() for line in table(result)] == [
        ["/busy", "5.0", "41", "1.50", "2,000"],
        ["/quiet", "1.0", "1", "-", "-"],
    ]
    assert "CPU time in use: 30.0%; cgroups that ran: 2" in result.stdout
    assert f"windows-20-{NEWER[:8]}-000000.parquet" in result.stdout
    assert OLDER[:8] not in result.stdout


def test_busiest_prefers_the_names_people_gave(tmp_path: Path) -> None:
    write_run(tmp_path, NEWER, 10, [
        {"cgroup_id": 1, "cgroup_kind": "unknown", "cpu_time_ns": 4},
        {"cgroup_id": 1, "cgroup_path": "/late", "window_start": 11, "cpu_time_ns": 4},
        {"cgroup_id": 2, "cgroup_path": "/p/c", "container_id": "c" * 64, "container_name": "db", "pod_name": "shop",
         "cpu_time_ns": 3},
        {"cgroup_id": 3, "cgroup_kind": "container", "cgroup_path": "/p/c", "container_id": "0123456789abcdef",
         "cpu_time_ns": 2},
        {"cgroup_id": 4, "cgroup_kind": "unknown", "cpu_time_ns": 1},
    ])  # fmt: skip
    names = [line[:32].rstrip() for line in table(busiest(tmp_path))]
    assert names == ["/late", "shop/db", "0123456789ab", "cgroup 4"]


def test_busiest_shows_hostile_names_on_one_line(tmp_path: Path) -> None:
    write_run(tmp_path, NEWER, 10, [
        {"cgroup_id": 1, "cgroup_path": "/\x1b[2J\nfake\x9b\u202e", "cpu_time_ns": 2},
        {"cgroup_id": 2, "cgroup_path": "/" + "x" * 5000 + "/end", "cpu_time_ns": 1},
    ])  # fmt: skip
    first, second = table(busiest(tmp_path))
    assert first.startswith(r"/\x1b[2J\nfake\x9b\u202e ")
    assert second.startswith("/xxx")
    assert second[:32].endswith("/end")


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"run_id": 3}', f'{{"run_id": "{NEWER}", "start": {{"utc_ns": 1}}}}']
)
def test_busiest_without_results_says_so_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        manifest = tmp_path / "runs" / NEWER / "session.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(content)
    result = busiest(tmp_path)
    assert result.returncode == 2
    assert re.fullmatch(r"no closed files of `tracer run` in '.*' that can be read \(\w+\)\n", result.stderr)
    assert result.stdout == ""


def test_busiest_without_a_directory_says_how_it_is_used() -> None:
    assert busiest().stderr == "usage: busiest.py DIR\n"


def locked(file: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", (REPOSITORY / file).read_text(), re.MULTILINE))


def test_each_locked_package_has_a_hash_and_no_address() -> None:
    for file in LOCK_FILES:
        text = (REPOSITORY / file).read_text()
        entries = re.split(r"\n(?=\S)", text.strip())
        packages = [entry for entry in entries if not entry.startswith("#")]
        assert len(packages) == len(locked(file)) > 0
        assert all("--hash=sha256:" in package for package in packages)
        assert "://" not in text


def test_lock_files_agree_and_never_hold_the_unrelated_bcc() -> None:
    versions: dict[str, str] = {}
    for file in LOCK_FILES:
        for package, version in locked(file).items():
            assert versions.setdefault(package, version) == version, f"{package} in {file}"
    assert "bcc" not in versions


def test_guests_do_without_what_is_large() -> None:
    images = (REPOSITORY / "scripts" / "virtual_machine" / "images.py").read_text()
    in_guests = [file for file in LOCK_FILES if f'"{file}"' in images]
    assert in_guests == list(LOCK_FILES[:3])
    assert not any("pyspark" in locked(file) for file in in_guests)
    assert "pyspark" in locked("requirements-engines.lock")


@pytest.mark.parametrize(
    ("user", "ci", "passed", "exit_code", "last_line"),
    [
        (0, "true", 3, 0, None),
        (1000, "", 1, 0, "2 tests were not run: they need root (sudo make test)"),
        (1000, "true", 1, 1, "2 tests were not run: they need root (sudo make test)"),
    ],
)
def test_what_needs_root_is_never_left_out_silently(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    user: int,
    ci: str,
    passed: int,
    exit_code: int,
    last_line: str | None,
) -> None:
    pytester.makeconftest((REPOSITORY / "tests" / "conftest.py").read_text())
    pytester.makeini("[pytest]\nmarkers = root")
    pytester.makepyfile("""
        import pytest

        def test_plain(): pass

        @pytest.mark.root
        @pytest.mark.parametrize("number", [1, 2])
        def test_root(number): pass
    """)
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setenv("CI", ci)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=passed, deselected=3 - passed)
    assert result.ret == exit_code
    if last_line:
        assert result.outlines[-1] == last_line
    else:
        assert "not run" not in str(result.stdout)
