# SPDX-License-Identifier: Apache-2.0
"""The inventory on ordinary directories, with a clock that the test sets."""

import os
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tracer.cgroup_event import CgroupEvent, EventKind
from tracer.containers import inventory as inventory_module
from tracer.containers import known_names
from tracer.containers import labels as labels_module
from tracer.containers.identity import ContainerKey, Identity
from tracer.containers.inventory import IDLE_ID, Arrival, Departure, Inventory
from tracer.containers.known_names import Source
from tracer.containers.labels import LABEL_SCHEMA, UNTIL, Labels
from tracer.containers.runtime_state import ContainerNames

ID = "0123456789abcdef" * 4
KEY = ContainerKey(ID)
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
        "runtime": None,
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


def test_a_name_in_the_path_is_there_at_once_and_asked_of_nobody(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    web = make(tmp_path, "lxc.payload.web/init.scope")
    inventory.refresh()
    assert inventory.resolve([web]) == set()
    assert inventory.take_moves() == []
    label = label_of(inventory, web)
    assert label is not None
    assert (label["cgroup_kind"], label["runtime"], label["container_name"]) == ("container", "lxc", "web")
    assert label["container_id"] == "/lxc.payload.web"
    assert inventory.living_containers() == [((tmp_path / "lxc.payload.web").stat().st_ino, "/lxc.payload.web")]


def test_all_in_a_pod_of_podmans_have_its_name(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    pod, container = "fedcba9876543210" * 4, "0123456789abcdef" * 4
    above = f"machine.slice/machine-libpod_pod_{pod}.slice"
    ids = [make(tmp_path, above), make(tmp_path, f"{above}/libpod-conmon-{container}.scope"),
           make(tmp_path, f"{above}/libpod-{container}.scope/container")]  # fmt: skip
    inventory.refresh()
    names = ContainerNames(runtime="podman", container_name="web", pod_name="shop", pod_uid=pod)
    inventory.give_names(ContainerKey(container), names, "runtime")
    labels = [label_of(inventory, one) for one in ids]
    assert [(label or {})["pod_name"] for label in labels] == ["shop"] * 3
    assert [(label or {})["container_name"] for label in labels] == [None, None, "web"]


def test_what_lies_below_a_cgroup(tmp_path: Path, clock: Clock) -> None:
    inside = make(tmp_path, "kubepods/pod1/container/init.scope")
    beside = make(tmp_path, "kubepods/pod1-not")
    pod, container = ((tmp_path / "kubepods" / path).stat().st_ino for path in ("pod1", "pod1/container"))
    inventory = Inventory(tmp_path, clock)
    assert sorted(inventory.below(pod)) == sorted([pod, container, inside])
    assert inventory.below(beside) == [beside]
    assert inventory.below(12345) == [12345]


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


def test_a_short_life_is_told_of_within_a_second(tmp_path: Path, clock: Clock) -> None:
    """Its cgroup is gone when a walk looks for it, and what the kernel told of it is not read yet."""
    inventory = Inventory(tmp_path, clock, expect_names=True)
    clock.now += 10
    assert inventory.resolve([SHORT_LIVED, NO_SUCH_ID]) == {SHORT_LIVED, NO_SUCH_ID}
    clock.now += 0.5
    inventory.refresh()
    assert inventory.unresolved == 2
    inventory.see(told("created", "/brief.service", SHORT_LIVED), "kernel")
    assert inventory.resolve([SHORT_LIVED, NO_SUCH_ID]) == {NO_SUCH_ID}
    assert kind_of(inventory, SHORT_LIVED) == "unit"
    clock.now += 1
    assert inventory.resolve([NO_SUCH_ID]) == set()
    assert kind_of(inventory, NO_SUCH_ID) == "unknown"
    assert inventory.resolve([NO_SUCH_ID - 1]) == {NO_SUCH_ID - 1}
    inventory.settle()
    assert inventory.resolve([NO_SUCH_ID - 1]) == set()


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


def test_the_dead_are_below_what_they_were_in_until_they_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    top, child, grandchild = SHORT_LIVED, SHORT_LIVED + 1, SHORT_LIVED + 2
    for cgroup_id, path in ((top, "/a.slice"), (child, "/a.slice/b.slice"), (grandchild, "/a.slice/b.slice/c.service")):
        inventory.see(told("created", path, cgroup_id), "kernel")
    for cgroup_id in (grandchild, child):
        inventory.see(told("removed", "", cgroup_id), "kernel")
    assert inventory.below(top) == [top, child, grandchild]
    assert [cgroup_id for cgroup_id, _path, _identity in inventory.existing_of((top, child, grandchild))] == [top]
    clock.now += 601
    inventory.see(told("created", "/a.slice/new.service", grandchild + 1), "kernel")
    inventory.refresh()
    assert inventory.below(top) == [top, grandchild + 1]


def test_names_reach_all_cgroups_of_a_container_whenever_they_come(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    path = f"/kubepods/burstable/pod{UID}/{ID}"
    inventory.see(told("created", path), "kernel")
    assert inventory.take_moves() == [Arrival(KEY, None, 5)]
    assert inventory.resolve([SHORT_LIVED]) == {SHORT_LIVED}
    inventory.give_names(KEY, NAMES, "runtime")
    assert not inventory.is_nameless(KEY)
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
    inventory.give_names(KEY, NAMES, "nri")
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    assert inventory.resolve([SHORT_LIVED]) == set()
    label = label_of(inventory, SHORT_LIVED)
    assert label is not None
    assert (label["runtime"], label["container_name"]) == ("containerd", "app")


def test_names_that_say_more_win(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    inventory.give_names(KEY, ContainerNames(runtime="docker", container_name="old"), "runtime")
    inventory.give_names(KEY, NAMES, "nri")
    inventory.give_names(KEY, ContainerNames(runtime="docker", container_name="less"), "runtime")
    label = label_of(inventory, SHORT_LIVED)
    assert label is not None
    assert label["container_name"] == "app"


def test_classes_are_those_of_the_container_in_all_its_cgroups(tmp_path: Path, clock: Clock) -> None:
    container = make(tmp_path, f"docker-{ID}.scope")
    inner = make(tmp_path, f"docker-{ID}.scope/inner")
    other = make(tmp_path, "system.slice")
    inventory = Inventory(tmp_path, clock)
    assert inventory.classes(container) == (None, None)
    inventory.give_names(KEY, NAMES, "runtime")
    assert inventory.classes(container) == (None, None)
    inventory.give_names(KEY, msgspec.structs.replace(NAMES, rdt_class="gold", blockio_class="slow"), "nri")
    assert inventory.classes(container) == inventory.classes(inner) == ("gold", "slow")
    assert inventory.classes(other) == inventory.classes(IDLE_ID) == inventory.classes(NO_SUCH_ID) == (None, None)


def test_a_sandbox_is_known_by_its_names(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/kubepods/pod{UID}/{ID}"), "kernel")
    inventory.give_names(KEY, ContainerNames(runtime="containerd", is_sandbox=True, pod_name="web-1"), "runtime")
    assert kind_of(inventory, SHORT_LIVED) == "sandbox"


def test_rows_wait_a_second_for_names_and_no_longer(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    clock.now += 0.9
    assert inventory.resolve([SHORT_LIVED]) == {SHORT_LIVED}
    clock.now += 0.2
    assert inventory.resolve([SHORT_LIVED]) == set()
    assert kind_of(inventory, SHORT_LIVED) == "container"


def test_rows_of_what_was_there_wait_from_when_names_are_first_asked_for(tmp_path: Path, clock: Clock) -> None:
    container = make(tmp_path, f"docker/{ID}")
    inventory = Inventory(tmp_path, clock, expect_names=True)
    clock.now += 5  # a slow beginning
    assert len(inventory.take_moves()) == 1
    clock.now += 0.9
    inventory.take_moves()
    assert inventory.resolve([container]) == {container}
    clock.now += 0.2
    inventory.take_moves()
    assert inventory.resolve([container]) == set()


def test_a_burst_leaves_the_inventory_as_large_as_it_was(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    before = len(inventory)
    for number in range(1000):
        container_id = f"{number:064x}"
        inventory.see(told("created", f"/docker/{container_id}", 100 + number), "kernel")
        inventory.give_names(ContainerKey(container_id), NAMES, "runtime")
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
    inventory.give_names(KEY, ContainerNames(runtime="docker", is_sandbox=True), "runtime")
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


# --- pods ---------------------------------------------------------------------------------------------------------

POD = f"/kubepods/burstable/pod{UID}"
OTHER_ID = "fedcba9876543210" * 4
IN_POD = ContainerNames(
    runtime="containerd", container_name="app", pod_name="web-1", pod_uid=UID, namespace="shop", image="i"
)
SANDBOX = ContainerNames(runtime="containerd", is_sandbox=True, pod_name="web-1", pod_uid=UID, namespace="shop")
POD_CGROUPS = {
    SHORT_LIVED: POD,
    SHORT_LIVED + 1: f"{POD}/kata_{OTHER_ID}",
    SHORT_LIVED + 2: f"{POD}/crio-conmon-{ID}.scope",
    SHORT_LIVED + 3: f"{POD}/anything",
    SHORT_LIVED + 4: f"{POD}/{ID}",
}


def pod_of(inventory: Inventory, cgroup_id: int) -> tuple[str | None, str | None, str | None]:
    label = label_of(inventory, cgroup_id)
    assert label is not None
    return label["pod_uid"], label["pod_name"], label["namespace"]


def events(inventory: Inventory, event: str) -> list[tuple[int, str]]:
    return [(change.cgroup_id, change.source) for change in inventory.take_changes() if change.event == event]


@pytest.mark.parametrize("source", ["nri", "runtime"])
@pytest.mark.parametrize(("key", "names"), [(KEY, IN_POD), (ContainerKey(OTHER_ID), SANDBOX)])
@pytest.mark.parametrize("names_first", [False, True])
def test_all_of_a_pod_is_named_by_any_of_its_containers(
    tmp_path: Path, clock: Clock, source: Source, key: ContainerKey, names: ContainerNames, names_first: bool
) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    if names_first:
        inventory.give_names(key, names, source)
    for cgroup_id, path in POD_CGROUPS.items():
        inventory.see(told("created", path, cgroup_id), "kernel")
    if not names_first:
        assert inventory.resolve(POD_CGROUPS) == set(POD_CGROUPS)
        inventory.give_names(key, names, source)
    for cgroup_id in POD_CGROUPS:
        assert pod_of(inventory, cgroup_id) == (UID, "web-1", "shop")
    # The container and the sandbox are told of once names of their own are known, the others at once.
    own = {SHORT_LIVED + 4} if key == KEY else {SHORT_LIVED + 1}
    waiting = {SHORT_LIVED + 1, SHORT_LIVED + 4} - own
    assert sorted(events(inventory, "named")) == sorted((id_, source) for id_ in POD_CGROUPS.keys() - waiting)
    # The monitor watches over the one container of these that may still be nameless.
    assert inventory.resolve(POD_CGROUPS) == waiting | ({SHORT_LIVED + 2} if key != KEY else set())
    kinds = {cgroup_id: kind_of(inventory, cgroup_id) for cgroup_id in POD_CGROUPS}
    assert list(kinds.values()) == ["pod", "sandbox", "monitor", "other", "container"]
    runtimes = {cgroup_id: label["runtime"] for cgroup_id in POD_CGROUPS if (label := label_of(inventory, cgroup_id))}
    assert runtimes[SHORT_LIVED] is runtimes[SHORT_LIVED + 3] is None


@pytest.mark.parametrize("names_first", [False, True])
def test_a_path_says_in_which_pod_a_container_is_whose_names_do_not(
    tmp_path: Path, clock: Clock, names_first: bool
) -> None:
    """As of containerd before 1.6, which wrote a pod's name but not its UID."""
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", POD, SHORT_LIVED + 1), "kernel")
    if names_first:
        inventory.give_names(KEY, NAMES, "runtime")
    inventory.see(told("created", f"{POD}/{ID}"), "kernel")
    if not names_first:
        inventory.give_names(KEY, NAMES, "runtime")
    for cgroup_id in (SHORT_LIVED, SHORT_LIVED + 1):
        assert pod_of(inventory, cgroup_id) == (UID, "web-1", "shop")
    assert sorted(events(inventory, "named")) == [(SHORT_LIVED, "runtime"), (SHORT_LIVED + 1, "runtime")]


def test_a_second_container_of_a_pod_names_nobody_else(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"{POD}/{ID}"), "kernel")
    inventory.give_names(KEY, IN_POD, "runtime")
    inventory.see(told("created", f"{POD}/{OTHER_ID}", SHORT_LIVED + 1), "kernel")
    inventory.take_changes()
    inventory.give_names(ContainerKey(OTHER_ID), msgspec.structs.replace(IN_POD, container_name="log"), "runtime")
    assert events(inventory, "named") == [(SHORT_LIVED + 1, "runtime")]


def test_a_container_within_a_container_has_the_pod_of_the_outer_one_and_no_name(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock, expect_names=True)
    inventory.see(told("created", f"{POD}/{ID}"), "kernel")
    inventory.give_names(KEY, IN_POD, "runtime")
    inventory.see(told("created", f"{POD}/{ID}/docker/{OTHER_ID}", SHORT_LIVED + 1), "kernel")
    inventory.see(told("created", f"{POD}/{ID}/kubelet/kubepods/pod{'a' * 32}/{'b' * 64}", SHORT_LIVED + 2), "kernel")
    for cgroup_id, runtime, container_id in ((SHORT_LIVED + 1, "docker", OTHER_ID), (SHORT_LIVED + 2, None, "b" * 64)):
        label = label_of(inventory, cgroup_id)
        assert label is not None
        assert (label["cgroup_kind"], label["runtime"], label["container_id"]) == ("container", runtime, container_id)
        assert label["container_name"] is None
        assert pod_of(inventory, cgroup_id) == (UID, "web-1", "shop")


def test_a_pod_is_known_for_as_long_as_anything_of_it(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", POD), "kernel")
    inventory.see(told("created", f"{POD}/{ID}", SHORT_LIVED + 1), "kernel")
    inventory.give_names(KEY, IN_POD, "runtime")
    inventory.see(told("removed", f"{POD}/{ID}", SHORT_LIVED + 1), "kernel")
    clock.now += 500
    inventory.see(told("removed", POD), "kernel")
    clock.now += 200
    inventory.refresh()
    assert label_of(inventory, SHORT_LIVED + 1) is None
    # A late row of a cgroup that nobody had seen.
    inventory.see(told("created", f"{POD}/{OTHER_ID}", SHORT_LIVED + 2), "kernel")
    assert pod_of(inventory, SHORT_LIVED + 2) == (UID, "web-1", "shop")
    inventory.see(told("removed", f"{POD}/{OTHER_ID}", SHORT_LIVED + 2), "kernel")
    clock.now += 601
    inventory.refresh()
    inventory.see(told("created", f"{POD}/{OTHER_ID}", SHORT_LIVED + 3), "kernel")
    assert pod_of(inventory, SHORT_LIVED + 3) == (UID, None, None)


def test_names_of_no_known_cgroup_are_bounded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_names, "_AT_MOST", 3)
    inventory = Inventory(tmp_path, clock)
    for number in range(10):
        pod = msgspec.structs.replace(IN_POD, pod_uid=f"{number:032x}")
        inventory.give_names(ContainerKey(f"{number:064x}"), pod, "nri")
    for number in range(10):
        inventory.see(told("created", f"/kubepods/pod{number:032x}", 100 + number), "kernel")
        inventory.see(told("created", f"/docker/{number:064x}", 200 + number), "kernel")
        pod_name, container = pod_of(inventory, 100 + number)[1], label_of(inventory, 200 + number)
        assert container is not None
        assert (pod_name, container["container_name"]) == (("web-1", "app") if number >= 7 else (None, None))


def test_a_users_containers_say_nothing_of_pods_or_of_the_nodes_containers(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    manager = "/user.slice/user-1000.slice/user@1000.service"
    paths = [POD, f"/docker/{ID}", f"{manager}/user.slice/docker-{ID}.scope"]
    for number, path in enumerate(paths):
        inventory.see(told("created", path, SHORT_LIVED + number), "kernel")
    inventory.give_names(ContainerKey(ID, 1000), msgspec.structs.replace(IN_POD, container_name="mine"), "runtime")
    assert pod_of(inventory, SHORT_LIVED) == (UID, None, None)
    assert pod_of(inventory, SHORT_LIVED + 2) == (None, None, None)
    inventory.give_names(KEY, ContainerNames(runtime="docker", container_name="theirs"), "runtime")
    names = [
        label["container_name"] for id_ in range(SHORT_LIVED, SHORT_LIVED + 3) if (label := label_of(inventory, id_))
    ]
    assert names == [None, "theirs", "mine"]


# --- names that change --------------------------------------------------------------------------------------------

OLD = ContainerNames(runtime="docker", container_name="old", image="i")
NEW = msgspec.structs.replace(OLD, container_name="new")


def test_a_renamed_container_keeps_its_old_name_for_what_was_before(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    inventory.see(told("created", f"/docker/{ID}/init", SHORT_LIVED + 1), "kernel")
    inventory.give_names(KEY, OLD, "runtime", 10)
    assert inventory.earlier_labels([SHORT_LIVED]).is_empty()
    inventory.take_changes()
    inventory.give_names(KEY, NEW, "runtime", 20)
    inventory.give_names(KEY, msgspec.structs.replace(OLD, container_name="newest"), "runtime", 30)
    inventory.give_names(KEY, msgspec.structs.replace(OLD, container_name="newest"), "runtime", 40)
    assert [(change.time_ns, change.event, change.cgroup_id) for change in inventory.take_changes()] == [
        (time_ns, "named", cgroup_id) for time_ns in (20, 30) for cgroup_id in (SHORT_LIVED, SHORT_LIVED + 1)
    ]
    for cgroup_id in (SHORT_LIVED, SHORT_LIVED + 1):
        label = label_of(inventory, cgroup_id)
        assert label is not None
        assert label["container_name"] == "newest"
        earlier = inventory.earlier_labels([cgroup_id, NO_SUCH_ID])
        assert earlier.select("cgroup_id", "container_name", UNTIL).rows() == [
            (cgroup_id, "old", 20),
            (cgroup_id, "new", 30),
        ]
    assert inventory.earlier_labels([IDLE_ID]).is_empty()


def test_others_do_not_rename(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    inventory.give_names(KEY, OLD, "runtime")
    inventory.give_names(KEY, NEW, "nri", 20)
    inventory.give_names(KEY, msgspec.structs.replace(OLD, container_name=None), "runtime", 20)
    label = label_of(inventory, SHORT_LIVED)
    assert label is not None
    assert label["container_name"] == "old"


def test_a_name_that_comes_late_holds_from_the_beginning(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/machine.slice/libpod-{ID}.scope"), "kernel")
    inventory.give_names(KEY, ContainerNames(runtime="podman"), "runtime", 10)
    inventory.give_names(KEY, ContainerNames(runtime="podman", container_name="x"), "runtime", 20)
    assert inventory.earlier_labels([SHORT_LIVED]).is_empty()


def test_renamed_containers_that_are_gone_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    inventory.see(told("created", f"/docker/{ID}"), "kernel")
    inventory.give_names(KEY, OLD, "runtime", 10)
    inventory.give_names(KEY, NEW, "runtime", 20)
    inventory.see(told("removed", f"/docker/{ID}"), "kernel")
    assert inventory.earlier_labels([SHORT_LIVED]).height == 1
    clock.now += 601
    inventory.refresh()
    assert inventory.earlier_labels([SHORT_LIVED]).is_empty()
    assert label_of(inventory, SHORT_LIVED) is None


def test_a_container_that_is_back_arrives_anew(tmp_path: Path, clock: Clock) -> None:
    inventory = Inventory(tmp_path, clock)
    for cgroup_id in (SHORT_LIVED, SHORT_LIVED + 1):
        inventory.see(told("created", f"/docker/{ID}", cgroup_id), "kernel")
        inventory.see(told("created", f"/docker/{ID}/init", cgroup_id + 10), "kernel")
        for gone in (cgroup_id + 10, cgroup_id):
            inventory.see(told("removed", "", gone), "kernel")
    assert inventory.take_moves() == [Arrival(KEY, "docker", 5), Departure(KEY)] * 2
    assert inventory.take_moves() == []


# --- labels -------------------------------------------------------------------------------------------------------


def test_labels_are_those_of_the_ids_asked_for(tmp_path: Path, clock: Clock) -> None:
    ids = [make(tmp_path, f"{number}.service") for number in range(5)]
    inventory = Inventory(tmp_path, clock)
    labels = inventory.labels([ids[3], NO_SUCH_ID, ids[1]])
    assert set(labels.select("cgroup_id", "cgroup_path").rows()) == {(ids[3], "/3.service"), (ids[1], "/1.service")}
    assert inventory.labels([]).schema == LABEL_SCHEMA
    assert inventory.labels()["cgroup_id"].to_list() == sorted([IDLE_ID, tmp_path.stat().st_ino, *ids])


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["put", "rename", "drop", "ask", "throw away"]), st.integers(0, 4), st.text(max_size=3)
        ),
        max_size=60,
    )
)
def test_labels_after_any_history_are_those_of_a_plain_table(
    monkeypatch: pytest.MonkeyPatch, steps: list[tuple[str, int, str]]
) -> None:
    labels = Labels()
    monkeypatch.setattr(labels_module, "_MOST_RECENT", 3)
    now: dict[int, tuple[str, str]] = {}
    before: list[tuple[int, str, int]] = []
    for time_ns, (action, cgroup_id, text) in enumerate(steps):
        if action == "put" or (action == "rename" and cgroup_id not in now):
            now[cgroup_id] = (text, text)
            labels.put(cgroup_id, text, Identity(kind="container", container_name=text))
        elif action == "rename":
            before.append((cgroup_id, now[cgroup_id][1], time_ns))
            now[cgroup_id] = (now[cgroup_id][0], text)
            named = Identity(kind="container", container_name=text)
            labels.put(cgroup_id, now[cgroup_id][0], named, since_ns=time_ns)
        elif action == "drop" and cgroup_id in now:
            del now[cgroup_id]
            before = [one for one in before if one[0] != cgroup_id]
            labels.drop(cgroup_id)
        elif action == "throw away":
            labels.frame([])
            labels._throw_away_garbage()
        asked = [cgroup_id, (cgroup_id + 1) % 5]
        columns = ["cgroup_id", "cgroup_path", "container_name"]
        assert set(labels.frame(asked).select(columns).rows()) == {(id_, *now[id_]) for id_ in asked if id_ in now}
        assert labels.earlier(set(asked)).select("cgroup_id", "container_name", UNTIL).rows() == [
            one for one in before if one[0] in asked
        ]
    assert labels.frame()["cgroup_id"].to_list() == sorted(now)


def test_labels_keep_no_more_than_twice_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_module, "_LEAST_GARBAGE", 10)
    monkeypatch.setattr(labels_module, "_MOST_RECENT", 10)
    labels = Labels()
    for number in range(1000):
        labels.put(number, None, Identity(kind="unit"))
        labels.frame([number])
        if number >= 20:
            labels.drop(number - 20)
    assert labels._frame.height + labels._recent.height <= 2 * 20 + 10 + 2 * 10
