# SPDX-License-Identifier: Apache-2.0
"""A database of podman's before 4.8, read without trust: BoltDB (go.etcd.io/bbolt's page.go, bucket.go and db.go).

A file of pages, of which two at its beginning say where the tree of the latest transaction begins. A tree's leaves hold
keys with values, or with buckets, which are trees of their own. podman has (libpod/boltdb_state_internal.go)

    pod / <id of a pod> / config       JSON, with its name
                          state        JSON, with the id of the container that holds its namespaces
                          containers   a bucket with the ids of its containers as keys

Of users' databases anything may be expected: no more is looked at than a bounded number of bytes.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from tracer.containers.runtime_state.names import harmless

_PAGE = struct.Struct("<QHHI")  # its number, what it is, how many elements it has, how many pages more it takes
_META = struct.Struct("<IIIIQQQQQ")  # magic, version, size of a page, flags, root's page, …, number of the transaction
_CHECKSUM = struct.Struct("<Q")
_BRANCH = struct.Struct("<IIQ")  # where the key is and how long, page
_LEAF = struct.Struct("<IIII")  # if it is a bucket, where the key is, how long key and value are
_BUCKET = struct.Struct("<QQ")  # page of its root, or 0: that follows
_IS_BRANCH, _IS_LEAF = 1, 2
_MAGIC, _VERSION = 0xED0CDAED, 2
_PAGE_SIZES = frozenset(512 << power for power in range(8))
_LONGEST_KEY = 256
_MOST_BYTES = 2**24


class _Entry(NamedTuple):
    key: bytes
    is_bucket: bool
    place: int
    """Where the value begins."""
    length: int


class _Config(msgspec.Struct):
    name: str = ""


class _State(msgspec.Struct):
    infra_id: str = msgspec.field(default="", name="InfraContainerID")


_CONFIG_DECODER = msgspec.json.Decoder(_Config)
_STATE_DECODER = msgspec.json.Decoder(_State)


def containers_in_pods(content: bytes) -> Iterator[tuple[str, str, str, bool]]:
    """As `podman_sqlite.containers_in_pods`."""
    try:
        database = _Database(content)
        for pods in database.entries(database.root):
            if pods.is_bucket and pods.key == b"pod":
                for pod in database.entries(database.bucket(pods)):
                    if pod.is_bucket:
                        yield from _containers(database, pod)
    except (struct.error, ValueError, RecursionError):
        return


def _containers(database: "_Database", pod: _Entry) -> Iterator[tuple[str, str, str, bool]]:
    inside = {entry.key: entry for entry in database.entries(database.bucket(pod))}
    config, containers = inside.get(b"config"), inside.get(b"containers")
    if config is None or containers is None or not containers.is_bucket:
        return
    name = harmless(_CONFIG_DECODER.decode(database.value(config)).name)
    state = inside.get(b"state")
    infra_id = None if state is None else _STATE_DECODER.decode(database.value(state)).infra_id
    if name is not None:
        for container in database.entries(database.bucket(containers)):
            container_id = container.key[:64].decode(errors="replace")
            yield container_id, pod.key[:64].decode(errors="replace"), name, container_id == infra_id


class _Database:
    """Raises struct.error or ValueError for what is none, or has no end."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._budget = _MOST_BYTES
        metas = [meta for place in (0, *_PAGE_SIZES) if (meta := self._meta(place)) is not None]
        _transaction, self._page_size, root = max(metas)
        self.root = root * self._page_size

    def entries(self, page: int) -> Iterator[_Entry]:
        """What is in the tree whose root's page begins at this place."""
        pages = [page]
        while pages:
            page = pages.pop()
            if page > len(self._content):
                raise ValueError("a page that is not there")
            _number, kind, count, _more = _PAGE.unpack_from(self._content, page)
            for place in range(page + _PAGE.size, page + _PAGE.size + 16 * count, 16):
                self._spend(16)
                if kind & _IS_BRANCH:
                    pages.append(_BRANCH.unpack_from(self._content, place)[2] * self._page_size)
                elif kind & _IS_LEAF:
                    flags, key, key_length, length = _LEAF.unpack_from(self._content, place)
                    key += place
                    if key_length <= _LONGEST_KEY:
                        name = self._content[key : key + key_length]
                        yield _Entry(name, bool(flags & 1), key + key_length, length)

    def bucket(self, entry: _Entry) -> int:
        """Where the page of a bucket's root begins."""
        page, _sequence = _BUCKET.unpack_from(self._content, entry.place)
        return page * self._page_size if page else entry.place + _BUCKET.size

    def value(self, entry: _Entry) -> bytes:
        """Of a key."""
        self._spend(entry.length)
        return self._content[entry.place : entry.place + entry.length]

    def _spend(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise ValueError("no end")

    def _meta(self, place: int) -> tuple[int, int, int] | None:
        """(number of the transaction, size of a page, page of the root), if it was written completely."""
        place += _PAGE.size
        if len(self._content) < place + _META.size + _CHECKSUM.size:
            return None
        magic, version, page_size, _flags, root, _sequence, _free, _pages, transaction = _META.unpack_from(
            self._content, place
        )
        (checksum,) = _CHECKSUM.unpack_from(self._content, place + _META.size)
        is_whole = checksum == _fnv1a(self._content[place : place + _META.size])
        if (magic, version) != (_MAGIC, _VERSION) or page_size not in _PAGE_SIZES or not is_whole:
            return None
        return transaction, page_size, root


def _fnv1a(content: bytes) -> int:
    checksum = 0xCBF29CE484222325
    for byte in content:
        checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
    return checksum
