# SPDX-License-Identifier: Apache-2.0
import re
from pathlib import Path
from urllib.parse import unquote
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracer.errors import UsageError
from tracer.store.layout import file_path, manifest_path, parse_closed_file, partition_value

RUN_ID = UUID("0123abcd-4567-489a-8bcd-ef0123456789")

# Lone surrogates are what Python makes of arguments that are not UTF-8.
# A character takes twelve bytes at the most in a name, and a name takes 241.
any_text = st.text(st.characters(exclude_categories=()), min_size=1, max_size=20)


@given(any_text)
@example(".")
@example("..")
@example("../../etc/cron.d/x")
@example("a=b/c\n")
@example("\0")
@example("\udc80")
@example("é" * 40)
@example("x" * 241)
def test_an_identifier_becomes_one_safe_directory_name(identifier: str):
    value = partition_value(identifier)
    assert re.fullmatch(r"(?:[A-Za-z0-9_.-]|%[0-9A-F]{2})+", value)
    assert value not in (".", "..", "__HIVE_DEFAULT_PARTITION__")
    assert len(f"identifier={value}") <= 255


@given(st.text(min_size=1, max_size=16))
def test_a_reader_that_unquotes_gets_the_identifier_back(identifier: str):
    assert unquote(partition_value(identifier)) == identifier


@pytest.mark.parametrize(
    ("identifier", "message"),
    [
        ("", "must not be empty"),
        ("__HIVE_DEFAULT_PARTITION__", "it means null to all"),
        ("x" * 242, r"'xxxxxxxxxxxxxxxxxxxx'\.\.\. takes 242 bytes .* 241 are allowed"),
        ("é" * 41, "takes 246 bytes"),
    ],
)
def test_what_no_reader_could_give_back_is_refused_in_one_line(identifier: str, message: str):
    with pytest.raises(UsageError, match=message) as refused:
        partition_value(identifier)
    assert "\n" not in str(refused.value)


@given(any_text, any_text)
@example("a/b", "a%2Fb")
@example(".", "%2E")
def test_different_identifiers_stay_different(one: str, other: str):
    def distinct(text: str) -> bytes:
        """What is told apart: a byte that is not UTF-8 reads like its escape."""
        return text.encode("utf-8", "backslashreplace")

    if distinct(one) != distinct(other):
        assert partition_value(one) != partition_value(other)


def test_paths_are_as_published():
    start_ns = 1_795_312_075 * 10**9 + 999_999_999
    path = file_path(Path("/out"), "windows", "node-1", start_ns, RUN_ID, 7)
    name = "windows-20261122T014755Z-0123abcd-000007.parquet"
    assert path == Path("/out/windows/dt=2026-11-22/identifier=node-1") / name
    assert manifest_path(Path("/out"), RUN_ID) == Path(f"/out/runs/{RUN_ID}/session.json")


@given(
    st.integers(0, 2**62),
    st.uuids(),
    st.integers(0, 10**9),
    st.sampled_from(["windows", "ticks", "health"]),
    any_text,
)
def test_our_own_paths_are_recognised(start_ns: int, run_id: UUID, sequence: int, table: str, identifier: str):
    path = file_path(Path("/out"), table, partition_value(identifier), start_ns, run_id, sequence)
    relative_path = str(path.relative_to("/out"))
    name = parse_closed_file(relative_path)
    assert name is not None
    assert (name.sequence, name.relative_path) == (sequence, relative_path)


@pytest.mark.parametrize(
    "relative_path",
    [
        "windows/dt=2026-11-22/identifier=n/windows-20261122T014755Z-0123abcd-000007.parquet.inprogress",
        "windows/dt=2026-11-22/identifier=n/ticks-20261122T014755Z-0123abcd-000007.parquet",
        "windows/dt=2026-11-22/identifier=n/windows-20261123T014755Z-0123abcd-000007.parquet",
        "windows/dt=2026-11-22/identifier=n/windows-20261122T014755Z-0123abcd-07.parquet",
        "windows/dt=2026-11-22/identifier=n/windows-20261122T014755Z-0123ABCD-000007.parquet",
        "windows/dt=2026-11-22/identifier=n/windows-20261122T014755Z-0123abcd-000007.parquet\n",
        "windows/dt=2026-11-22/identifier=n/copy-of-windows-20261122T014755Z-0123abcd-000007.parquet",
        "windows/dt=2026-11-22/identifier=n/deep/windows-20261122T014755Z-0123abcd-000007.parquet",
        "windows/dt=2026-11-22/windows-20261122T014755Z-0123abcd-000007.parquet",
        "runs/0123abcd-4567-489a-8bcd-ef0123456789/session.json",
        "",
    ],
)
def test_what_is_not_ours_is_not_recognised(relative_path: str):
    assert parse_closed_file(relative_path) is None
