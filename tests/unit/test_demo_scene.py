# SPDX-License-Identifier: Apache-2.0
"""The demo's containers as others see them, and where they are put."""

import os
from pathlib import Path

import pytest

from tracer.containers.identity import Identity, identify, recognize
from tracer.containers.runtimes import find_runtimes
from tracer.demo import scene
from tracer.demo.scene import HOG, PREFIX, SERVICE, Scene


@pytest.mark.parametrize("name", [SERVICE, HOG])
def test_they_are_containers_of_the_tracer_and_called_as_they_are(name: str) -> None:
    path = f"/{PREFIX}0123abcd/{name}"
    assert identify(path) == Identity(kind="container", runtime="tracer", container_id=name)
    _identity, key = recognize(path)
    assert key is not None
    assert key.container_id == name
    # No runtime of this node's.
    assert "tracer" not in {runtime.name for runtime in find_runtimes([path])}


@pytest.mark.parametrize(
    "path", [f"/{SERVICE}", f"/{PREFIX}x/{SERVICE}", f"/{PREFIX}0123abcd/other", f"/{PREFIX}0123abcd"]
)
def test_nothing_else_is_taken_for_them(path: str) -> None:
    assert identify(path).kind == "other"


def test_they_are_put_where_least_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    looks = iter([{0: 100, 1: 100, 2: 100, 3: 0}, {0: 110, 1: 119, 2: 112, 3: 100}])
    monkeypatch.setattr(scene, "_idle_times", lambda: next(looks))
    monkeypatch.setattr(scene, "_LOOK_SECONDS", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2})
    assert Scene(tmp_path, 1).cpu == 1


def test_the_idlest_is_found_without_proc_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "_idle_times", dict)
    monkeypatch.setattr(scene, "_LOOK_SECONDS", 0)
    assert scene._idlest_cpu() == max(os.sched_getaffinity(0))
