# SPDX-License-Identifier: Apache-2.0
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracer.errors import NodeUnsupportedError, TracerError
from tracer.kernel.cpus import format_cpu_list, online_cpus, parse_cpu_list, possible_cpus, present_cpus


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", []),
        ("\n", []),
        ("0\n", [0]),
        ("0-3,8,10-11\n", [0, 1, 2, 3, 8, 10, 11]),
        ("7-7", [7]),
        ("4,0-1,1", [0, 1, 4]),
    ],
)
def test_parses_what_kernels_print(text: str, cpus: list[int]) -> None:
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text", ["x", "-1", "3-1", "0-", "0,,1", "0,", "0 1", "1-2-3", "0-9999999", "٣", "0x3", "0-10:2/4", "9" * 5000]
)
def test_refuses_anything_else_in_one_line(text: str) -> None:
    with pytest.raises(TracerError, match="not a list of CPUs") as caught:
        parse_cpu_list(text)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@given(st.sets(st.integers(0, 600)))
def test_formatting_and_parsing_are_inverse(cpus: set[int]) -> None:
    text = format_cpu_list(cpus)
    assert parse_cpu_list(text) == sorted(cpus)
    assert len(text.split(",")) <= max(1, len(cpus))


@given(st.text(max_size=20))
def test_any_text_is_a_list_or_an_error(text: str) -> None:
    try:
        cpus = parse_cpu_list(text)
    except TracerError:
        return
    assert cpus == sorted(set(cpus))


def test_formats_runs_as_ranges() -> None:
    assert format_cpu_list([11, 0, 1, 2, 3, 8, 10]) == "0-3,8,10-11"
    assert format_cpu_list([]) == ""


def test_this_node() -> None:
    assert set(os.sched_getaffinity(0)) <= set(online_cpus()) <= set(present_cpus()) <= set(possible_cpus())
    assert len(online_cpus()) == os.sysconf("SC_NPROCESSORS_ONLN")


@pytest.mark.parametrize("content", [None, "", "all\n"])
def test_a_node_that_does_not_say_cannot_be_measured(tmp_path: Path, content: str | None) -> None:
    directory = tmp_path / "devices/system/cpu"
    directory.mkdir(parents=True)
    if content is not None:
        for name in ("online", "present", "possible"):
            (directory / name).write_text(content)
    for read in (online_cpus, present_cpus, possible_cpus):
        with pytest.raises(NodeUnsupportedError, match=str(directory)):
            read(tmp_path)
