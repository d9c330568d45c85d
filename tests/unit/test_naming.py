# SPDX-License-Identifier: Apache-2.0
"""What cgroups are called, how names are cut, and who is meant by a pattern."""

import itertools
import re
import unicodedata
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from tracer.errors import UsageError
from tracer.naming import Selector, Who, cut, name_of, shown_names

ID = "0123456789abcdef" * 4
OTHER_ID = "fedcba9876543210" * 4
UID = "3ac633f6-8235-4007-81c7-0c55a16e7ae8"
STATIC_UID = "44b4a4c1b3a2e6a89dcd1f1c9d0a8b77"
POD_PATH = f"/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice"

WEB = Who(
    node_name="n1",
    cgroup_id=4711,
    cgroup_kind="container",
    cgroup_path=f"{POD_PATH}/cri-containerd-{ID}.scope",
    runtime="containerd",
    container_id=ID,
    container_name="app",
    pod_name="web-7d9f8c6b5d-x2x7q",
    pod_uid=UID,
    namespace="shop",
    qos_class="burstable",
)


def who(**columns: Any) -> Who:
    return Who(**{"cgroup_id": 7, "cgroup_kind": "container", **columns})


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"container_id": ID, "pod_uid": UID}, f"pod{UID}/0123456789ab"),
        ({"container_id": ID, "pod_uid": STATIC_UID}, f"pod{STATIC_UID}/0123456789ab"),
        ({"container_id": ID, "pod_uid": UID, "container_name": "app"}, f"pod{UID}/app"),
        ({"container_id": ID, "pod_uid": UID, "cgroup_kind": "sandbox"}, f"pod{UID} (sandbox)"),
        ({"pod_uid": UID, "cgroup_kind": "pod", "cgroup_path": POD_PATH}, f"pod{UID}"),
        ({"pod_uid": UID, "cgroup_kind": "unknown"}, f"pod{UID}"),
        ({"container_id": ID, "cgroup_kind": "unknown"}, "0123456789ab"),
        ({"container_name": "db", "cgroup_kind": "monitor"}, "db (monitor)"),
        ({"cgroup_kind": "monitor", "cgroup_path": "/lxc.monitor.web"}, "/lxc.monitor.web"),
        ({"container_id": "/lxc.payload.web", "container_name": "web", "cgroup_path": "/lxc.payload.web/a"}, "web"),
        ({"container_id": "/nomad/x.web", "container_name": "web", "pod_uid": UID}, f"pod{UID}/web"),
        ({"cgroup_kind": "unit", "cgroup_path": "/init.scope"}, "init.scope"),
        ({"cgroup_kind": "unit", "cgroup_path": "/user.slice/user-1000.slice"}, "user-1000.slice"),
        (
            {"cgroup_kind": "unit", "cgroup_path": "/user.slice/user-0.slice/user@0.service/app.slice/dbus.service"},
            "user@0.service/dbus.service",
        ),
        ({"cgroup_kind": "unit", "cgroup_path": "/user.slice/user-0.slice/user@0.service/init.scope"},
         "user@0.service/init.scope"),
    ],
)  # fmt: skip
def test_what_is_known_makes_the_name(columns: dict[str, Any], name: str) -> None:
    assert name_of(who(**columns)) == name


def test_the_documents_queries_give_the_same_names() -> None:
    page = (Path(__file__).parents[2] / "docs" / "names.md").read_text()
    python, sql = (re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)[1] for language in ("python", "sql"))  # type: ignore[index]
    people = [
        WEB,
        *(
            who(**{**msgspec.structs.asdict(WEB), **dict.fromkeys(unknown)})
            for unknown in (
                ["namespace"], ["container_name"], ["pod_name", "namespace"],
                ["pod_name", "namespace", "container_name"], ["pod_name", "namespace", "pod_uid"],
                ["pod_name", "namespace", "pod_uid", "container_name"],
            )
        ),
        who(cgroup_kind="other", cgroup_path="/build/x"),
    ]  # fmt: skip
    frame = pl.DataFrame([msgspec.structs.asdict(one) for one in people], infer_schema_length=None)
    given: dict[str, Any] = {"pl": pl}
    exec(python, given)
    expected = [name_of(one) for one in people]
    assert frame.select(given["name"]).to_series().to_list() == expected
    rows = duckdb.sql(f"SELECT {sql} FROM frame").fetchall()
    assert [name for (name,) in rows] == expected


@pytest.mark.parametrize("width", range(8, 60))
@pytest.mark.parametrize(
    "names",
    [
        ["shop/web-7d9f8c6b5d-abcde/app", "shop/web-7d9f8c6b5d-fghij/app"],
        [f"payments/checkout-7d9f8c6b5d-{end}/istio-proxy-sidecar-container" for end in ("abcde", "fghij", "fghik")],
        ["/a/very/long/path/of/one/kind/below/it", "/a/very/long/path/of/two/kind/below/it"],
        [f"kind-{cluster}-control-plane-node-{number}" for cluster in "ab" for number in (1, 2)],
        [f"systemd-fsck@dev-disk-by\\x2duuid-{one}\\x2d1234\\x2d5678.service" for one in ("aaaa", "bbbb")],
        [f"pod{UID}/{id_[:12]}" for id_ in (ID, OTHER_ID)],
        ["名前" * 20 + "一" + "前" * 20, "名前" * 20 + "二" + "前" * 20],
        ["a" * 50 + "e\u0301" + "b" * 50, "a" * 50 + "e\u0300" + "b" * 50],
    ],
)
def test_what_differs_stays(names: list[str], width: int) -> None:
    shown = shown_names(names, width)
    assert len(set(shown.values())) == len(names)
    assert all(cell_len(text) <= width for text in shown.values())
    # By itself, not by a number that says nothing.
    assert width < 12 or not any("#" in text for text in shown.values())
    assert width < 12 or all(text[-1] == name[-1] or "#" in text for name, text in shown.items())


def test_a_lone_name_keeps_both_ends() -> None:
    assert cut("shop/web-7d9f8c6b5d-abcde/app", 20) == "shop/web-7…abcde/app"
    assert cut("shop/web", 8) == "shop/web"
    assert cut("名前名前名前", 7) == "名前…前"
    assert cut("abce\u0301fgh", 6) == "abc…gh"


TEXTS = st.text(st.characters(codec=None), max_size=40) | st.text("ab/-", min_size=10, max_size=60)


@given(st.lists(TEXTS, max_size=8), st.integers(6, 30) | st.none())
def test_any_names_are_harmless_bounded_and_distinct(names: list[str], width: int | None) -> None:
    shown = shown_names(names, width)
    assert shown.keys() == set(names)
    assert len(set(shown.values())) == len(shown)
    for text in shown.values():
        assert text.isprintable()
        assert width is None or cell_len(text) <= width
        # A mark would go onto what is before it in the table.
        assert width is None or "…" not in text or not unicodedata.combining(text.partition("…")[2][:1] or "x")
    assert shown == shown_names(reversed(names), width)


def test_endless_names_take_no_endless_time() -> None:
    names = ["x" * 10_000_000 + "1", "x" * 10_000_000 + "2", "e" + "\u0301" * 5_000_000]
    shown = shown_names(names, 30)
    assert len(set(shown.values())) == 3
    assert all(len(text) <= 60 for text in shown.values())


@pytest.mark.parametrize(
    "pattern",
    [
        "shop/web-7d9f8c6b5d-x2x7q/app", "web-7d9f8c6b5d-x2x7q/app", "shop/web-7d9f8c6b5d-x2x7q",
        "web-7d9f8c6b5d-x2x7q", "app", "shop/web/app", ID, ID[:12], ID[:4], f"containerd://{ID}", UID, UID[:8],
        UID.replace("-", "_"), UID.upper(), UID.replace("-", ""), f"pod{UID}", f"pod{UID.replace('-', '_')}",
        "4711", WEB.cgroup_path,
        f"/sys/fs/cgroup{WEB.cgroup_path}", f"/sys/fs/cgroup/unified{WEB.cgroup_path}/", f"{POD_PATH}",
        "/kubepods.slice", "shop/*", "*/app", "web-*", "web-???????b5d-*", "*[ab]pp", "0123*cdef",
        "shop/web-7…x2x7q/app", "/kubepods.slice/*",
    ],
)  # fmt: skip
def test_all_that_means_a_container(pattern: str) -> None:
    assert Selector([pattern]).takes(WEB)
    Selector([pattern]).among([who(container_name="db"), WEB])


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "ap", "web", "shop", "012", ID[1:], "pod", "pods", UID[1:], "471", "/kubepods", "web-?", "*x", "[", "*[",
     "namespace/app", "\n", "\udcff", "*" * 60 + "y"],
)  # fmt: skip
def test_what_means_somebody_else(pattern: str) -> None:
    assert not Selector([pattern]).takes(WEB)
    with pytest.raises(UsageError) as refusal:
        Selector([pattern]).among([WEB])
    assert str(refusal.value).isprintable()


def test_who_is_called_so_goes_before_whose_id_begins_so() -> None:
    cafe, other = who(container_name="cafe", container_id=OTHER_ID), who(container_name="db", container_id="cafe" * 16)
    number = who(cgroup_id=1234, container_name="x", container_id="5678" * 16)
    for pattern, meant in (("cafe", cafe), ("1234", number), ("db", other), ("cafecafe", other)):
        there = [cafe, other, number, who(container_id="1234" * 16)]
        chosen = Selector([pattern]).among(there)
        assert [one for one in there if chosen.takes(one)] == [meant]


def test_a_name_is_taken_as_it_is_and_as_it_is_shown() -> None:
    hostile = who(container_name="a[1]*\x1b[31m\u202e")
    (text,) = shown_names([name_of(hostile)]).values()
    for pattern in (name_of(hostile), text):
        assert Selector([pattern]).takes(hostile)


def test_several_patterns_are_one_set_and_each_means_somebody() -> None:
    there = [who(container_name=name) for name in ("web", "db", "job")]
    both = Selector(["web", "db"])
    assert [both.takes(one) for one in there] == [True, True, False]
    both.among(there)
    with pytest.raises(UsageError, match="no container is called 'webb'; there are web, db, job"):
        Selector(["db", "webb"]).among(there)


def test_who_is_nearest_comes_first_and_the_others_are_counted() -> None:
    there = [who(container_name=f"{a}{b}") for a, b in itertools.product(("red", "blue", "green"), range(9))]
    with pytest.raises(UsageError) as refusal:
        Selector(["gren4"]).among(there)
    assert str(refusal.value).startswith("no container is called 'gren4'; there are green4, ")
    assert str(refusal.value).endswith("and 23 more")
    with pytest.raises(UsageError, match="there is none"):
        Selector(["x"]).among([])
