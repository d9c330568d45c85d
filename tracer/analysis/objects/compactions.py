# SPDX-License-Identifier: Apache-2.0
"""Manifests of compactions, as an object store has them."""

from tracer.analysis.objects.store import ObjectStore
from tracer.errors import UsageError
from tracer.printable import printable
from tracer.store.compactions import Compaction, compaction_path, decode_compaction


def read_compaction(store: ObjectStore, hour: int) -> Compaction | None:
    """That of an hour; None where it was never compacted. Raises UsageError for what is none."""
    path = compaction_path(hour)
    directory, _slash, name = path.rpartition("/")
    return _read(store, hour) if name in store.list(directory).objects else None


def _read(store: ObjectStore, hour: int) -> Compaction:
    path = compaction_path(hour)
    try:
        return decode_compaction(store.read(path), hour)
    except ValueError as error:
        raise UsageError(f"{store.url}/{path} {printable(str(error).encode())}") from error
