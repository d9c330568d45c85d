# SPDX-License-Identifier: Apache-2.0
"""The model of the processor of each node, as the manifests of its runs say."""

from collections.abc import Iterable, Mapping
from typing import Protocol
from uuid import UUID

import msgspec

from tracer.analysis.objects.store import ObjectStore
from tracer.errors import UsageError
from tracer.store.periods import session_path


class _Host(Protocol):
    @property
    def node_name(self) -> str: ...

    @property
    def cpu_model(self) -> str | None: ...


class _OnlyHost(msgspec.Struct, frozen=True):
    node_name: str
    cpu_model: str | None = None


class _OnlyWhere(msgspec.Struct, frozen=True):
    """Of a manifest, what is looked at of thousands."""

    host: _OnlyHost


def models_of(hosts: Iterable[_Host]) -> dict[str, str]:
    """By node, as its last run says."""
    return {host.node_name: host.cpu_model for host in hosts if host.cpu_model is not None}


def models_of_runs(store: ObjectStore, runs: Mapping[str, UUID]) -> tuple[dict[str, str], list[str]]:
    """Those of nodes by one run of each, and what is to be said of manifests that cannot be read."""
    hosts = list(store.of_each(lambda run_id: _host(store, run_id), list(runs.values())))
    missing = sum(host is None for host in hosts)
    notes = [f"the manifests of {missing} runs cannot be read"] if missing else []
    return models_of(host for host in hosts if host is not None), notes


def _host(store: ObjectStore, run_id: UUID) -> _OnlyHost | None:
    try:
        return msgspec.json.decode(store.read(session_path(run_id)), type=_OnlyWhere).host
    except (UsageError, ValueError, RecursionError):
        return None
