# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cgroup_file_sets import FILE_SETS, ROWS, write_files
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.readers.cgroup_files import COLUMNS
from tracer.readers.cgroup_keys import FILES
from tracer.readers.protocol import Cgroup
from tracer.readers.pss import PSS_SCHEMA, PssSums
from tracer.readers.resources import ResourcesReader
from tracer.store.schemas import IDENTITY, RESOURCES

NewReader = Callable[..., ResourcesReader]


@pytest.fixture
def new_reader(tmp_path: Path) -> Iterator[NewReader]:
    """Readers of a tree of ordinary files at tmp_path; no descriptor is left when they are closed."""
    made = []

    def make(**options: Any) -> ResourcesReader:
        made.append(ResourcesReader(tmp_path, **options))
        return made[-1]

    yield make
    for reader in made:
        reader.close()
    assert open_descriptors(tmp_path) == []


def open_descriptors(root: Path) -> list[str]:
    """Files and directories below `root` that are open."""
    held = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            held.append(str(descriptor.readlink()))
    return [path for path in held if path.startswith(str(root))]


def cgroup(root: Path, path: str, kind: str = "container", *, is_inner: bool = False) -> Cgroup:
    return Cgroup((root / path.lstrip("/")).stat().st_ino, path, kind, None, is_inner)


def rows_of(reader: ResourcesReader, *cgroups: Cgroup) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row.items() if value is not None and name not in ("cgroup_id", "monotonic_ns")}
        for row in reader.read(cgroups).rows["resources"].sort("cgroup_id").to_dicts()
    ]


@pytest.mark.parametrize("kernel", FILE_SETS)
def test_files_of_each_kernel_come_to_the_rows_they_stand_for(
    new_reader: NewReader, tmp_path: Path, kernel: str
) -> None:
    write_files(tmp_path / "a", FILE_SETS[kernel])
    (row,) = rows_of(new_reader(), cgroup(tmp_path, "/a"))
    assert row == pytest.approx(ROWS[kernel])


def test_every_column_is_in_the_schema_and_the_other_way_round() -> None:
    in_schema = set(RESOURCES.schema.names) - {field.name for field in IDENTITY}
    made_up = {"time", "memory_working_set_bytes", "processes", "pss_bytes", "pss_coverage", "extra"}
    assert set(COLUMNS) == in_schema - made_up
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert len({file.name for file in FILES}) == len(FILES)


def test_keys_of_a_newer_kernel_are_in_extra(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"memory.stat": "anon 5\nanon_folded 6\n", "cpu.stat": "usage_usec 7\nwaited 8\n"})
    write_files(tmp_path / "b", {"memory.stat": "anon 9\n", "io.stat": "8:0 rbytes=1 cost.wait=10\n8:1 cost.wait=3\n"})
    write_files(tmp_path / "c", {"io.pressure": "some total=4 slow=2\nmost total=11\n"})
    cgroups = [cgroup(tmp_path, path) for path in ("/a", "/b", "/c")]
    rows = new_reader().read(cgroups).rows["resources"]
    extra = {cgroup_id: pairs and {pair["key"]: pair["value"] for pair in pairs} for cgroup_id, pairs in
             rows.select("cgroup_id", "extra").iter_rows()}  # fmt: skip
    assert [extra[cgroup.cgroup_id] for cgroup in cgroups] == [
        {"memory.stat.anon_folded": 6, "cpu.stat.waited": 8},
        {"io.stat.cost.wait": 13},
        {"io.pressure.some.slow": 2, "io.pressure.most.total": 11},
    ]
    assert rows.sort("cgroup_id")["memory_anon_bytes"].drop_nulls().sort().to_list() == [5, 9]


def test_more_keys_than_there_is_room_for_do_no_harm(new_reader: NewReader, tmp_path: Path) -> None:
    many = "".join(f"key{number} {number}\n" for number in range(300))
    write_files(tmp_path / "a", {"memory.stat": many + "anon 5\n"})
    (row,) = rows_of(new_reader(), cgroup(tmp_path, "/a"))
    assert row["memory_anon_bytes"] == 5
    assert row["extra"][0] == {"key": "memory.stat.key0", "value": 0}
    assert len(row["extra"]) == 64


def test_values_change_and_what_is_gone_is_null(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", FILE_SETS["6.1"])
    reader = new_reader()
    a = cgroup(tmp_path, "/a")
    rows_of(reader, a)
    # In place, as the kernel does it: an open file stays the same.
    (tmp_path / "a" / "memory.current").write_text("1000\n")
    (tmp_path / "a" / "memory.stat").write_text("inactive_file 2000\n")
    (tmp_path / "a" / "cpu.stat").write_text("")
    (row,) = rows_of(reader, a)
    assert row["memory_current_bytes"] == 1000
    assert row["memory_working_set_bytes"] == 0
    assert "memory_anon_bytes" not in row
    assert "cpu_usage_usec" not in row
    assert row["memory_max_bytes"] == 536870912


def test_settings_are_read_again_when_a_cgroup_ends(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", FILE_SETS["6.1"])
    reader = new_reader()
    a = cgroup(tmp_path, "/a")
    rows_of(reader, a)
    (tmp_path / "a" / "memory.max").write_text("max\n")
    reader.read_ending([a])
    assert "memory_max_bytes" not in reader.take_looks().rows["resources"].columns


def test_a_cgroup_that_ends_between_two_passes_has_a_last_row(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "short", {"cpu.stat": "usage_usec 9\n"})
    reader = new_reader()
    short = cgroup(tmp_path, "/short")
    reader.read_ending([short])
    assert reader.take_looks().rows["resources"]["cpu_usage_usec"].to_list() == [9]
    assert reader.take_looks().rows == {}
    assert rows_of(reader) == []


def test_last_rows_of_many_are_told_at_once_and_one_that_ends_again_has_both(
    new_reader: NewReader, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_files(tmp_path / name, {"cpu.stat": f"usage_usec {ord(name)}\n"})
    reader = new_reader()
    a, b = (cgroup(tmp_path, f"/{name}") for name in ("a", "b"))
    reader.read_ending([a])
    reader.read_ending([b])
    (tmp_path / "a" / "cpu.stat").write_text("usage_usec 100\n")
    reader.read_ending([a])
    rows = reader.take_looks().rows["resources"]
    assert sorted(rows.select("cgroup_id", "cpu_usage_usec").rows()) == sorted(
        [(a.cgroup_id, 97), (a.cgroup_id, 100), (b.cgroup_id, 98)]
    )


def test_one_whose_directory_is_gone_has_no_row_more(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"cpu.stat": "usage_usec 9\n"})
    reader = new_reader()
    a = cgroup(tmp_path, "/a")
    (tmp_path / "a" / "cpu.stat").unlink()
    (tmp_path / "a").rmdir()
    assert rows_of(reader, a) == []
    reader.read_ending([a])
    assert not reader.take_looks().rows


def test_a_path_that_is_another_cgroups_by_now_gives_no_row(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"cpu.stat": "usage_usec 9\n"})
    other = cgroup(tmp_path, "/a")._replace(cgroup_id=1)
    assert rows_of(new_reader(), other) == []


def test_directories_that_cannot_be_opened_are_counted(new_reader: NewReader, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("no directory")
    assert new_reader().read([cgroup(tmp_path, "/a")]).health == {"unread_cgroups": 1}
    nul = Cgroup(7, "/a\0b", "container", None, False)
    assert new_reader().read([nul]).health == {"unread_cgroups": 1}


def test_files_that_cannot_be_read_are_null(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"cpu.stat": "usage_usec 9\n"})
    (tmp_path / "a" / "memory.stat").mkdir()
    (row,) = rows_of(new_reader(), cgroup(tmp_path, "/a"))
    assert row == {"cpu_usage_usec": 9}


def test_who_has_rows(new_reader: NewReader, tmp_path: Path) -> None:
    kinds = ("container", "sandbox", "monitor", "pod", "qos", "unit", "other", "mount", "unknown")
    for kind in kinds:
        write_files(tmp_path / kind, {"cpu.stat": "usage_usec 9\n"})
    write_files(tmp_path / "container" / "init", {"cpu.stat": "usage_usec 9\n"})
    cgroups = [cgroup(tmp_path, f"/{kind}", kind) for kind in kinds]
    cgroups.append(cgroup(tmp_path, "/container/init", is_inner=True))
    assert len(rows_of(new_reader(), *cgroups)) == len(kinds) - 2


@pytest.mark.parametrize("at_most", [0, 3, 1000])
def test_it_is_the_same_with_as_many_files_open_as_one_likes(
    new_reader: NewReader, tmp_path: Path, at_most: int
) -> None:
    for number in range(200):
        write_files(tmp_path / f"{number}", {"cpu.stat": f"usage_usec {number}\n", "memory.current": f"{number}\n"})
    reader = new_reader(keep_open_at_most=at_most)
    cgroups = [cgroup(tmp_path, f"/{number}") for number in range(200)]
    for _ in range(3):
        rows = reader.read(cgroups).rows["resources"]
        assert sorted(rows["cpu_usage_usec"].to_list()) == list(range(200))
        assert rows["memory_current_bytes"].equals(rows["cpu_usage_usec"])
        assert len(open_descriptors(tmp_path)) == 200 + min(at_most, 400)
    rows = reader.read(cgroups[:50]).rows["resources"]
    assert set(rows["cgroup_id"]) == {cgroup.cgroup_id for cgroup in cgroups[:50]}
    assert len(open_descriptors(tmp_path)) == 50 + min(at_most, 100)


def test_pss_is_in_one_row_only(new_reader: NewReader, tmp_path: Path) -> None:
    write_files(tmp_path / "a", {"cpu.stat": "usage_usec 9\n"})
    a = cgroup(tmp_path, "/a")
    sums = PssSums()
    reader = new_reader(pss=sums)
    sums.put(pl.DataFrame([(a.cgroup_id, 3, 4096, 1.0)], schema=PSS_SCHEMA, orient="row"))
    assert rows_of(reader, a) == [{"cpu_usage_usec": 9, "processes": 3, "pss_bytes": 4096, "pss_coverage": 1.0}]
    assert rows_of(reader, a) == [{"cpu_usage_usec": 9}]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9223372036854775807\n", 2**63 - 1), ("9223372036854775808\n", None),
        ("18446744073709551615\n", None), ("18446744073709551616\n", None), ("max\n", None), ("-1\n", None),
        ("", None), ("\n", None), ("1.5\n", None), ("7", 7), ("7 8 9\n", 7), ("0x10\n", None), ("9" * 200, None),
    ],
)  # fmt: skip
def test_a_single_value(new_reader: NewReader, tmp_path: Path, text: str, value: int | None) -> None:
    write_files(tmp_path / "a", {"memory.current": text, "cpu.stat": "usage_usec 9\n"})
    (row,) = rows_of(new_reader(), cgroup(tmp_path, "/a"))
    assert row.get("memory_current_bytes") == value


_SEPARATORS = st.sampled_from([b" ", b"\n", b"=", b".", b"  ", b"\n\n", b"\0", b"\t"])
_WORDS = st.one_of(
    st.sampled_from([b"usage_usec", b"some", b"full", b"avg10", b"total", b"rbytes", b"8:0", b"anon", b"max"]),
    st.integers(0, 2**70).map(lambda number: str(number).encode()),
    st.binary(max_size=80),
)
_HOSTILE = st.lists(st.one_of(_WORDS, _SEPARATORS), max_size=60).map(b"".join)


@given(st.dictionaries(st.sampled_from([file.name for file in FILES]), _HOSTILE, min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_contents_do_no_harm(new_reader: NewReader, tmp_path: Path, files: dict[str, bytes]) -> None:
    for file in FILES:
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / file.name).write_bytes(files.get(file.name, b""))
    (tmp_path / "b").mkdir(exist_ok=True)
    (tmp_path / "b" / "memory.current").write_text("77\n")
    a, b = cgroup(tmp_path, "/a"), cgroup(tmp_path, "/b")
    reader = new_reader()
    rows = reader.read([a, b]).rows["resources"]
    reader.close()
    assert rows.filter(pl.col("cgroup_id") == b.cgroup_id)["memory_current_bytes"].to_list() == [77]
    for column in rows.select(pl.col(pl.Float32)):
        assert column.drop_nulls().is_finite().all()


@given(st.dictionaries(st.sampled_from(list(FILES[5].columns)), st.integers(0, 2**64 - 1)), st.randoms())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_keys_in_any_order(new_reader: NewReader, tmp_path: Path, values: dict[str, int], random: Any) -> None:
    lines = [f"{key} {value}\n" for key, value in values.items()]
    random.shuffle(lines)
    write_files(tmp_path / "a", {"memory.stat": "".join(lines)})
    reader = new_reader()
    (row,) = rows_of(reader, cgroup(tmp_path, "/a"))
    reader.close()
    # The kernel writes a sum that fell below zero as a number near 2^64.
    assert row == {FILES[5].columns[key]: value for key, value in values.items() if value < 2**63}
