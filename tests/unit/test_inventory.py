# SPDX-License-Identifier: Apache-2.0
"""The inventory on ordinary directories, with a clock that the test sets."""

import os
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.containers import inventory as inventory_module
from tracer.containers.inventory import IDLE_ID, LABEL_SCHEMA, Inventory
from tracer.containers.runtime_state import ContainerNames

ID = "0123456789abcdef" * 4
UID = "dde1244b-5bb5-4297-b544-85f3bc0d80bf"
NO_SUCH_ID = 2**64 - 1


class Clock:
    """Monotonic seconds that stand still until they are moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make(root: Path, path: str) -> int:
    """Make a directory and the ones above it; its inode."""
    (root / path).mkdir(parents=True)
    return (root / path).stat().st_ino


def label_of(inventory: Inventory, cgroup_id: int) -> dict[str, Any] | None:
    rows = inventory.labels().filter(pl.col("cgroup_id") == cgroup_id).to_dicts()
    assert len(rows) <= 1
    return rows[0] if rows else None


def kind_of(inventory: Inventory, cgroup_id: int) -> str | None:
    label = label_of(inventory, cgroup_id)
    return label["cgroup_kind"] if label else None


def test_labels_of_what_is_there_at_the_start(tmp_path: Path, clock: Clock) -> None:
    container = make(tmp_path, f"kubepods/burstable/pod{UID}/{ID}")
    service = make(tmp_path, "system.slice/a.service")
    inventory = Inventory(tmp_path, clock)
    nothing = dict.fromkeys(LABEL_SCHEMA.names())
    assert inventory.resolve([container, service, IDLE_ID]) == set()
    assert label_of(inventory, container) == nothing | {
        "cgroup_id": container,
        "cgroup_kind": "container",
        "cgroup_path": f"/kubepods/burstable/pod{UID}/{ID}",
        "runtime": "unknown-cri",
        "container_id": ID,
        "pod_uid": UID,
        "qos_class": "burstable",
    }
    assert label_of(inventory, service) == nothing | {
        "cgroup_id": service,
        "cgroup_kind": "unit",
        "cgroup_path": "/system.slice/a.service",
    }
    root = tmp_path.stat().st_ino
    assert label_of(inventory, root) == nothing | {
        "cgroup_id": root,
        "cgroup_kind": "other",
        "cgroup_path": "/",
    }
    assert label_of(inventory, IDLE_ID) == nothing | {"cgroup_id": IDLE_ID, "cgroup_kind": "idle"}


def test_schema_and_order_of_labels(tmp_path: Path, clock: Clock) -> None:
    for number in range(20):
        make(tmp_path, str(number))
    labels = Inventory(tmp_path, clock).labels()
    assert labels.schema == LABEL_SCHEMA
    assert labels["cgroup_id"].is_sorted()
    assert labels["cgroup_id"].is_unique().all()
    assert labels["cgroup_kind"].null_count() == 0


def test_new_cgroup_is_pending_until_the_next_walk_is_due(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    new = make(tmp_path, "new.service")
    clock.now += 0.999
    assert inventory.resolve([new, IDLE_ID]) == {new}
    assert label_of(inventory, new) is None
    clock.now += 0.001
    assert inventory.resolve([]) == set()
    assert kind_of(inventory, new) == "unit"


def test_walks_at_most_once_a_second(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    clock.now += 1
    first, second = make(tmp_path, "first"), NO_SUCH_ID
    assert inventory.resolve([first]) == set()
    second = make(tmp_path, "second")
    clock.now += 0.5
    assert inventory.resolve([first, second]) == {second}
    clock.now += 0.5
    assert inventory.resolve([first, second]) == set()


def test_an_id_that_no_walk_finds_is_unknown(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    assert inventory.resolve([NO_SUCH_ID]) == {NO_SUCH_ID}
    clock.now += 1
    assert inventory.resolve([NO_SUCH_ID]) == set()
    nothing = dict.fromkeys(LABEL_SCHEMA.names())
    assert label_of(inventory, NO_SUCH_ID) == nothing | {"cgroup_id": NO_SUCH_ID, "cgroup_kind": "unknown"}


def test_an_unknown_id_causes_no_further_walks(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    clock.now += 1
    inventory.resolve([NO_SUCH_ID])
    unseen = make(tmp_path, "unseen")
    clock.now += 100
    assert inventory.resolve([NO_SUCH_ID]) == set()
    assert label_of(inventory, unseen) is None


def test_an_unknown_id_that_lasts_is_looked_for_again_after_ten_minutes(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    clock.now += 1
    inventory.resolve([NO_SUCH_ID])
    clock.now += 600
    assert inventory.resolve([NO_SUCH_ID, NO_SUCH_ID - 1]) == {NO_SUCH_ID}
    assert label_of(inventory, NO_SUCH_ID) is None
    clock.now += 1
    assert inventory.resolve([NO_SUCH_ID]) == set()
    assert kind_of(inventory, NO_SUCH_ID) == "unknown"


def test_refresh_settles_what_is_pending(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    new = make(tmp_path, "new")
    assert inventory.resolve([new, NO_SUCH_ID]) == {new, NO_SUCH_ID}
    inventory.refresh()
    assert inventory.resolve([new, NO_SUCH_ID]) == set()
    assert kind_of(inventory, new) == "other"
    assert kind_of(inventory, NO_SUCH_ID) == "unknown"


def test_the_dead_are_known_for_ten_minutes_and_then_forgotten(tmp_path: Path, clock: Clock) -> None:
    brief = make(tmp_path, "brief.service")
    inventory = Inventory(tmp_path, clock)
    inventory.resolve([NO_SUCH_ID])
    (tmp_path / "brief.service").rmdir()
    clock.now += 1000  # alive at the last walk: it is missed only from the next one on
    inventory.refresh()
    clock.now += 599
    inventory.refresh()
    assert kind_of(inventory, brief) == "unit"
    assert kind_of(inventory, NO_SUCH_ID) == "unknown"
    assert inventory.resolve([brief]) == set()
    clock.now += 1
    inventory.refresh()
    assert label_of(inventory, brief) is None
    assert label_of(inventory, NO_SUCH_ID) is None
    assert inventory.labels()["cgroup_id"].to_list() == [IDLE_ID, tmp_path.stat().st_ino]


def test_a_cgroup_that_was_out_of_sight_for_a_while_is_not_forgotten(tmp_path: Path, clock: Clock) -> None:
    tree = tmp_path / "tree"
    cgroup = make(tree, "a.service")
    inventory = Inventory(tree, clock)
    tree.rename(tmp_path / "elsewhere")
    inventory.refresh()
    (tmp_path / "elsewhere").rename(tree)
    clock.now += 300
    inventory.refresh()
    clock.now += 400
    inventory.refresh()
    assert kind_of(inventory, cgroup) == "unit"


def test_an_unknown_cgroup_that_shows_up_gets_its_name(tmp_path: Path, clock: Clock) -> None:
    tree = tmp_path / "tree"
    cgroup = make(tree, "a.service")
    inventory = Inventory(tmp_path / "elsewhere", clock)
    inventory.resolve([cgroup])
    inventory.refresh()
    assert kind_of(inventory, cgroup) == "unknown"
    tree.rename(tmp_path / "elsewhere")
    inventory.refresh()
    assert kind_of(inventory, cgroup) == "unit"


def test_no_more_than_so_many_of_the_dead_are_kept(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory_module, "_KEEP_DEAD_AT_MOST", 3)
    inventory = Inventory(tmp_path, clock)
    for number in range(10):
        inventory.resolve([NO_SUCH_ID - number])
        clock.now += 1
        inventory.refresh()
    kept = inventory.labels().filter(cgroup_kind="unknown")["cgroup_id"].to_list()
    assert kept == [NO_SUCH_ID - 9, NO_SUCH_ID - 8, NO_SUCH_ID - 7]


def test_labels_are_rebuilt_only_on_change(tmp_path: Path, clock: Clock) -> None:
    cgroup = make(tmp_path, "a")
    inventory = Inventory(tmp_path, clock)
    labels = inventory.labels()
    clock.now += 10
    inventory.resolve([cgroup])
    inventory.refresh()
    (tmp_path / "a").rmdir()
    inventory.refresh()
    assert inventory.labels() is labels
    make(tmp_path, "b")
    inventory.refresh()
    assert inventory.labels() is not labels


def test_hostile_names_are_printable_in_labels(tmp_path: Path, clock: Clock) -> None:
    cgroup = make(tmp_path, "\udcff\x1b]0;a\x07\n<b>.service")
    inventory = Inventory(tmp_path, clock)
    label = label_of(inventory, cgroup)
    assert label is not None
    assert label["cgroup_path"] == "/\\xff\\x1b]0;a\\x07\\n<b>.service"
    assert label["cgroup_kind"] == "unit"


def test_ids_of_a_polars_or_numpy_column(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    column = pl.Series([IDLE_ID, NO_SUCH_ID], dtype=pl.UInt64)
    assert inventory.resolve(column) == {NO_SUCH_ID}
    assert inventory.resolve(column.to_numpy()) == {NO_SUCH_ID}
    inventory.refresh()
    assert kind_of(inventory, NO_SUCH_ID) == "unknown"


@settings(max_examples=50)
@given(
    steps=st.lists(
        st.tuples(st.floats(0, 700), st.sampled_from(["resolve", "refresh"]), st.integers(0, 5)), max_size=40
    )
)
def test_after_any_history_every_id_is_labelled_or_pending(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[float, str, int]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    clock = Clock()
    inventory = Inventory(root, clock)
    names: dict[int, str] = {}
    for wait, action, number in steps:
        clock.now += wait
        directory = root / f"{number}.service"
        if directory.exists():
            directory.rmdir()
        else:
            directory.mkdir()
            names[directory.stat().st_ino] = f"/{number}.service"
        if action == "refresh":
            inventory.refresh()
        asked = [*names, IDLE_ID, NO_SUCH_ID - number]
        pending = inventory.resolve(asked)
        labels = {row["cgroup_id"]: row for row in inventory.labels().iter_rows(named=True)}
        assert set(asked) - pending <= labels.keys()
        assert pending.isdisjoint(labels)
        assert labels[IDLE_ID]["cgroup_kind"] == "idle"
        if directory.exists() and directory.stat().st_ino not in pending:
            assert labels[directory.stat().st_ino]["cgroup_kind"] in ("unit", "unknown")


# --- events and names ---------------------------------------------------------------------------------------------

NAMES = ContainerNames(runtime="containerd", container_name="app", pod_name="web-1", namespace="shop", image="i")
SHORT_LIVED = 77


def told(kind: EventKind, path: str, cgroup_id: int = SHORT_LIVED) -> CgroupEvent:
    return CgroupEvent(time_ns=5, kind=kind, cgroup_id=cgroup_id, path=path)


def test_a_cgroup_that_was_never_seen_on_disk_keeps_its_name(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/kubepods/pod{UID}/{ID}"), "kernel")
    inventory.see(told("removed", f"/kubepods/pod{UID}/{ID}"), "kernel")
    clock.now += 599
    inventory.refresh()
    assert kind_of(inventory, SHORT_LIVED) == "container"
    clock.now += 2
    inventory.refresh()
    assert label_of(inventory, SHORT_LIVED) is None


def test_the_dead_are_kept_for_two_rotations_if_these_are_longer(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, keep_dead_seconds=7200)
    inventory.see(told("created", "/a.service"), "kernel")
    inventory.refresh()
    clock.now += 7199
    inventory.refresh()
    assert kind_of(inventory, SHORT_LIVED) == "unit"


def test_names_reach_all_cgroups_of_a_container_whenever_they_come(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    path = f"/kubepods/burstable/pod{UID}/{ID}"
    inventory.see(told("created", path), "kernel")
    assert inventory.take_nameless() == [(ID, "unknown-cri")]
    assert inventory.resolve([SHORT_LIVED]) == {SHORT_LIVED}
    inventory.give_names(ID, NAMES, "runtime")
    assert not inventory.is_nameless(ID)
    inventory.see(told("created", f"{path}/child", SHORT_LIVED + 1), "kernel")
    assert inventory.resolve([SHORT_LIVED, SHORT_LIVED + 1]) == set()
    for cgroup_id in (SHORT_LIVED, SHORT_LIVED + 1):
        label = label_of(inventory, cgroup_id)
        assert label is not None
        assert (label["container_name"], label["pod_name"], label["namespace"]) == ("app", "web-1", "shop")
        assert (label["pod_uid"], label["runtime"], label["qos_class"]) == (UID, "containerd", "burstable")
    events = [(change.event, change.source, change.cgroup_id) for change in inventory.take_changes()][-4:]
    assert events == [
        ("created", "kernel", SHORT_LIVED),
        ("named", "runtime", SHORT_LIVED),
        ("created", "kernel", SHORT_LIVED + 1),
        ("named", "runtime", SHORT_LIVED + 1),
    ]


def test_names_may_come_before_the_cgroup(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    inventory.give_names(ID, NAMES, "nri")
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    assert inventory.resolve([SHORT_LIVED]) == set()
    label = label_of(inventory, SHORT_LIVED)
    assert label is not None
    assert (label["runtime"], label["container_name"]) == ("containerd", "app")


def test_names_that_say_more_win(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    inventory.give_names(ID, ContainerNames(runtime="docker", container_name="old"), "runtime")
    inventory.give_names(ID, NAMES, "nri")
    inventory.give_names(ID, ContainerNames(runtime="docker", container_name="less"), "runtime")
    label = label_of(inventory, SHORT_LIVED)
    assert label is not None
    assert label["container_name"] == "app"


def test_classes_are_those_of_the_container_in_all_its_cgroups(tmp_path: Path, clock: Clock) -> None:
    container = make(tmp_path, f"docker-{ID}.scope")
    inner = make(tmp_path, f"docker-{ID}.scope/inner")
    other = make(tmp_path, "system.slice")
    inventory = Inventory(tmp_path, clock)
    assert inventory.classes(container) == (None, None)
    inventory.give_names(ID, NAMES, "runtime")
    assert inventory.classes(container) == (None, None)
    inventory.give_names(ID, msgspec.structs.replace(NAMES, rdt_class="gold", blockio_class="slow"), "nri")
    assert inventory.classes(container) == inventory.classes(inner) == ("gold", "slow")
    assert inventory.classes(other) == inventory.classes(IDLE_ID) == inventory.classes(NO_SUCH_ID) == (None, None)


def test_a_sandbox_is_known_by_its_names(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/kubepods/pod{UID}/{ID}"), "kernel")
    inventory.give_names(ID, ContainerNames(runtime="containerd", is_sandbox=True, pod_name="web-1"), "runtime")
    assert kind_of(inventory, SHORT_LIVED) == "sandbox"


def test_rows_wait_a_second_for_names_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    clock.now += 0.9
    assert inventory.resolve([SHORT_LIVED]) == {SHORT_LIVED}
    clock.now += 0.2
    assert inventory.resolve([SHORT_LIVED]) == set()
    assert kind_of(inventory, SHORT_LIVED) == "container"


def test_a_burst_leaves_the_inventory_as_large_as_it_was(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    before = len(inventory)
    for number in range(1000):
        container_id = f"{number:064x}"
        inventory.see(told("created", f"/docker/{container_id}", 100 + number), "kernel")
        inventory.give_names(container_id, NAMES, "runtime")
        inventory.see(told("removed", f"/docker/{container_id}", 100 + number), "kernel")
    assert len(inventory) == before + 1000
    clock.now += 601
    inventory.refresh()
    assert len(inventory) == before


def test_existing_is_the_same_until_something_changes(tmp_path: Path, clock: Clock) -> None:
    container = make(tmp_path, f"docker-{ID}.scope")
    inner = make(tmp_path, f"docker-{ID}.scope/init")
    inventory = Inventory(tmp_path, clock, expect_names=True)
    existing = inventory.existing()
    assert {(cgroup_id, path, identity.kind, identity.subpath) for cgroup_id, path, identity in existing} == {
        (tmp_path.stat().st_ino, "/", "other", ""),
        (container, f"/docker-{ID}.scope", "container", ""),
        (inner, f"/docker-{ID}.scope/init", "container", "init"),
    }
    inventory.resolve([container])
    inventory.refresh()
    assert inventory.existing() is existing
    inventory.give_names(ID, ContainerNames(runtime="docker", is_sandbox=True), "runtime")
    named = {cgroup_id: identity.kind for cgroup_id, _path, identity in inventory.existing()}
    assert named[container] == "sandbox"
    inventory.see(CgroupEvent(1, "removed", inner, f"/docker-{ID}.scope/init"), "kernel")
    assert {cgroup_id for cgroup_id, _path, _identity in inventory.existing()} == {tmp_path.stat().st_ino, container}
    inventory.refresh()
    assert inner in {cgroup_id for cgroup_id, _path, _identity in inventory.existing()}
    assert [path for _id, path, _identity in inventory.existing_of([inner, NO_SUCH_ID])] == [f"/docker-{ID}.scope/init"]


def test_existing_has_paths_as_the_file_system_has_them(tmp_path: Path, clock: Clock) -> None:
    os.mkdir(os.fsencode(tmp_path) + b"/\xff\x1b.service")  # noqa: PTH102 - bytes
    inventory = Inventory(tmp_path, clock)
    (path,) = (path for _cgroup_id, path, _identity in inventory.existing() if path != "/")
    assert os.fsencode(path) == b"/\xff\x1b.service"
    assert "/\\xff\\x1b.service" in inventory.labels()["cgroup_path"].to_list()
