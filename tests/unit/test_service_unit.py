# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: where it is installed, what systemd says of it, and that it holds what the documents say.

That it starts, is fed and is killed is tried in a guest: tests/guest/test_service.py.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from tracer.cli.run import default_options
from tracer.preflight.rights import RIGHTS
from tracer.units import parse_bytes

ROOT = Path(__file__).parents[2]
UNIT, CONFIG = ROOT / "deploy" / "systemd" / "tracer.service", ROOT / "deploy" / "systemd" / "tracer.toml"
MOST_EXPOSED = 2.8


def service(action: str, prefix: str, destination: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / "scripts" / "service", action, prefix, destination], capture_output=True, text=True, check=False
    )


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize(
    ("prefix", "unit"),
    [
        ("/usr/local", "usr/local/lib/systemd/system/tracer.service"),
        ("/usr", "usr/lib/systemd/system/tracer.service"),
        ("/opt/tracer", "etc/systemd/system/tracer.service"),
    ],
)
def test_it_is_installed_where_systemd_looks_and_not_enabled(tmp_path: Path, prefix: str, unit: str) -> None:
    for _ in range(2):
        assert service("install", prefix, tmp_path).returncode == 0
    # No link of a target to it: it is not enabled.
    assert files_below(tmp_path) == {unit, "etc/tracer/tracer.toml"}
    assert f"\nExecStart={prefix}/bin/tracer run --config /etc/tracer/tracer.toml\n" in (tmp_path / unit).read_text()
    assert service("remove", prefix, tmp_path).returncode == 0
    assert files_below(tmp_path) == set()
    assert service("remove", prefix, tmp_path).returncode == 0


def test_what_is_anothers_or_was_changed_stays(tmp_path: Path) -> None:
    service("install", "/usr/local", tmp_path)
    config = tmp_path / "etc/tracer/tracer.toml"
    config.write_text("ticks = true\n")
    service("install", "/usr/local", tmp_path)
    service("remove", "/usr/local", tmp_path)
    assert files_below(tmp_path) == {"etc/tracer/tracer.toml"}
    assert config.read_text() == "ticks = true\n"
    other = tmp_path / "usr/local/lib/systemd/system/tracer.service"
    other.write_text("[Service]\nExecStart=/opt/other/tracer\n")
    assert service("install", "/usr/local", tmp_path).returncode == 1
    assert service("remove", "/usr/local", tmp_path).returncode == 0
    assert other.read_text() == "[Service]\nExecStart=/opt/other/tracer\n"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit, whose command is a file that is there."""
    unit = tmp_path / "tracer.service"
    program = tmp_path / "bin" / "tracer"
    program.parent.mkdir()
    program.touch(0o755)
    # Man pages are not where systemd looks for them.
    unit.write_text(re.sub("Documentation=.*", "", UNIT.read_text().replace("@PREFIX@", str(tmp_path))))
    return unit


def test_systemd_finds_nothing_wrong_with_it(installed: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", installed], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_no_more_exposed_than_the_documents_say(installed: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", installed]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    score = re.search(r"Overall exposure level for tracer.service: ([0-9.]+)", done.stdout)
    assert score
    assert float(score[1]) <= MOST_EXPOSED, done.stdout
    assert f"{MOST_EXPOSED} (of 10" in (ROOT / "docs" / "service.md").read_text()


def values(name: str) -> list[str]:
    return re.findall(f"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_it_has_no_quota_and_more_memory_than_the_tracer_takes() -> None:
    (limit,) = values("MemoryMax")
    assert parse_bytes(f"{limit}iB") > parse_bytes(default_options()["memory-limit"])
    assert values("CPUQuota") == []
    assert int(values("CPUWeight")[0]) < 100


def test_its_capabilities_are_of_the_table() -> None:
    bounding = {name for value in values("CapabilityBoundingSet") for name in value.split()}
    table = {name for right in RIGHTS for name in right.capability.names}
    assert bounding < table
    assert {name for right in RIGHTS if right.when == "always" for name in right.capability.names} < bounding


def test_its_configuration_is_one_of_run() -> None:
    config = tomllib.loads(CONFIG.read_text())
    assert config.keys() <= default_options().keys()
    (state,) = values("StateDirectory")
    assert config["output"] == f"/var/lib/{state}"
