# SPDX-License-Identifier: Apache-2.0
"""What each kernel must do, on each kernel of Debian that is supported; the outcome is docs/kernels.md."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

import pytest
from guests import CORE, PYTEST

if TYPE_CHECKING:
    from conftest import Ended

pytestmark = pytest.mark.root

PAGE = Path(__file__).parents[2] / "docs" / "kernels.md"
KERNELS = {
    "5.10": ("--kernel", "5.10"),
    "6.1": ("--kernel", "6.1"),
    "6.12": ("--kernel", "6.12"),
    "6.12, systemd, headers": ("--kernel", "6.12", "--system", "systemd", "--headers"),
    "newest": ("--kernel", "7.x"),
    "6.12, arm64": ("--kernel", "6.12", "--arch", "arm64"),
}
COMMAND = f"""
uname -r >/results/kernel
tracer doctor --json >/results/doctor.json
exec {" ".join((*PYTEST, *CORE))}
"""


class Seen(NamedTuple):
    """What a guest said: its release, by check whether it passed, by doctor's checks their status."""

    release: str
    passed: dict[str, bool]
    doctor: dict[str, str]


def see(results: Path) -> Seen:
    passed: dict[str, bool] = {}
    for case in ElementTree.parse(results / "tests.xml").getroot().iter("testcase"):
        name = case.attrib["name"].split("[")[0].removeprefix("test_").replace("_", " ")
        failed = any(child.tag in ("failure", "error", "skipped") for child in case)
        passed[name] = passed.get(name, True) and not failed
    doctor = {check["id"]: check["status"] for check in json.loads((results / "doctor.json").read_text())["checks"]}
    return Seen((results / "kernel").read_text().strip(), passed, doctor)


def page(seen: dict[str, Seen]) -> str:
    """docs/kernels.md."""
    passed = {kernel: {name: "yes" if good else "**no**" for name, good in one.passed.items()}
              for kernel, one in seen.items()}  # fmt: skip
    return "\n".join(
        [
            "# Kernels",
            "",
            "Written by `make vm-test`, which boots each of these kernels of Debian in an emulated guest. The core of",
            "the tests runs on each. What `tracer doctor` has to say of a guest is its processor's as well.",
            "",
            *table("kernel", {kernel: {"release": f"`{one.release}`"} for kernel, one in seen.items()}),
            "",
            *table("check", passed),
            "",
            *table("`tracer doctor`", {kernel: one.doctor for kernel, one in seen.items()}),
            "",
        ]
    )


def table(title: str, columns: dict[str, dict[str, str]]) -> list[str]:
    """A row for each name that any column has."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = [[name, *(column.get(name, "") for column in columns.values())] for name in names]
    return [f"| {' | '.join(cells)} |" for cells in ([title, *columns], ["---"] * (len(columns) + 1), *rows)]


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[str, Seen]]:
    """By kernel; the page is written once all are there."""
    seen: dict[str, Seen] = {}
    yield seen
    if set(seen) == set(KERNELS):
        PAGE.write_text(page(seen))


@pytest.mark.parametrize(
    "kernel",
    [
        pytest.param(name, marks=pytest.mark.guest(*options, "--timeout", "2000", "--", "bash", "-c", COMMAND))
        for name, options in KERNELS.items()
    ],
)
def test_a_kernel(kernel: str, guest: "Ended", seen: dict[str, Seen]) -> None:
    here = seen[kernel] = see(guest.results)
    assert (guest.exit_code, [name for name, passed in here.passed.items() if not passed]) == (0, [])
    assert len(here.passed) > 15
    assert "failed" not in here.doctor.values()
