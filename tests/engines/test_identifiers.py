# SPDX-License-Identifier: Apache-2.0
"""Whatever a node is called, the examples get its name back as text."""

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from examples import FILES, by_second, run
from recording_examples import START, write_rows

LayOut = Callable[[Path], None]

LIKE_NO_TEXT = [
    *("42", "0042", "1e5", "1.0", "-1", "+5", "0x10", "1_000", "9" * 40, "inf", "NaN", "nan", "true", "T"),
    *("null", "NULL", "None", "\\N", "2026-01-01", "12:00:00", "2026-01-01T00:00:00Z", "a b/c%=", "..", "%30"),
    *("a%20b", " x", "x ", "'", '"', "knöten-日本", "x" * 241, "ö" * 40, "unknown"),
    "00000000-0000-4000-8000-000000000000",
]


def identified(output: Path, identifiers: list[str]) -> Path:
    """An output of nodes with these names, on each of which a pod ran for a moment."""
    for identifier in identifiers:
        pod = {"container_id": "c", "pod_name": "web-1", "cgroup_id": 7}
        window = {"window_start": START, "cpu_time_ns": 10**9, "cycles": 2, "instructions": 1, **pod}
        for table, row in (("windows", window), ("resources", {"time": START, "memory_current_bytes": 2**20, **pod})):
            write_rows(output, table, [row], node_name=identifier, run_id=uuid4())
    return output


@pytest.mark.parametrize("engine", ["Polars", "DuckDB", "pandas", "PyArrow", "docs/files.md"])
def test_identifiers_come_back_as_they_were_given(engine: str, tmp_path: Path, lay_out: LayOut) -> None:
    """Each by itself, since an engine guesses from all that there are, and then all of them together."""

    def read() -> list[str]:
        if engine == "docs/files.md":
            return sorted(run(FILES)["windows"].collect()["identifier"].to_list())
        return sorted(row[0] for row in by_second(engine))

    together = [LIKE_NO_TEXT, ["0042", "42"], ["-1", "42"], ["2026-01-01", "2026-01-02"]]
    for number, identifiers in enumerate([*([text] for text in LIKE_NO_TEXT), *together]):
        lay_out(identified(tmp_path / str(number), identifiers))
        assert read() == sorted(identifiers)


ALONE = ("42", "1e5", "1.0", "NaN", "true", "null", "2026-01-01", "12:00:00", "9" * 40, "knöten-日本", "x" * 241)


@pytest.mark.parametrize(
    "identifiers",
    [LIKE_NO_TEXT, ["0042", "42"], *([text] for text in ALONE)],
    ids=["all", "two", *(text[:20] for text in ALONE)],
)
@pytest.mark.usefixtures("spark")
def test_identifiers_come_back_from_spark(identifiers: list[str], tmp_path: Path, lay_out: LayOut) -> None:
    lay_out(identified(tmp_path / "output", identifiers))
    assert sorted(row[0] for row in by_second("Spark")) == sorted(identifiers)
