# SPDX-License-Identifier: Apache-2.0
"""Sends files to an object store, and makes sure that they are there."""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from tracer.errors import UsageError
from tracer.store.object_urls import STATUS, check_url, connection_options, local_directory, reason_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore as AnyStore

# What is larger goes in parts of this size, one after the other, of which one is in memory.
PART_BYTES: Final = 8 * 2**20

_HASH_BYTES: Final = 2**20
# Of the file system: not permitted, not there, not a directory, read-only.
_LASTING_LOCALLY: Final = re.compile(r"\(os error (?:1|2|13|20|30)\)")


class UploadError(Exception):
    """What an object store did not do, and why, in few words. is_lasting: somebody must do something about it."""

    def __init__(self, reason: str, *, is_lasting: bool) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting


class ObjectStore:
    """Of one URL. Objects have paths below it. All methods raise UploadError."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the store yet. Raises UsageError for what can never be one."""
        check_url(url)
        try:
            import obstore
        except ImportError as error:
            raise UsageError(
                "uploading needs the extra `upload`: pip install 'tracer[upload]' (it brings obstore)"
            ) from error
        self.url = url.rstrip("/")
        self._obstore = obstore
        self._directory = local_directory(url)
        self._store: AnyStore | None = None
        if self._directory is None:
            try:
                self._store = obstore.store.from_url(url, **connection_options())
            except (obstore.exceptions.BaseError, ValueError) as error:
                raise UsageError(f"{url!r} cannot be used: {reason_of(error)}") from error

    def get(self, path: str, most_bytes: int) -> bytes | None:
        """What is there; None where nothing is."""
        with self._asking(absent_is_fine=True):
            found = self._obstore.get(self._opened, path)
            if found.meta["size"] > most_bytes:
                raise UploadError(f"{path} has {found.meta['size']} bytes, which no tracer wrote", is_lasting=True)
            return bytes(found.bytes())
        return None

    def put(self, path: str, content: bytes) -> None:
        """All or nothing of it is there then, in place of what was."""
        self._send(path, content, hashlib.sha256(content).hexdigest())
        self._require(path, len(content))

    def put_file(
        self, path: str, file: BinaryIO, size: int, sha256: str, pace: Callable[[int], None] = lambda _bytes: None
    ) -> bool:
        """As `put`; `pace` is told how many bytes are sent next, and may wait. False: it is there already."""
        if self.has(path, size, sha256):
            return False
        file.seek(0)
        if size <= PART_BYTES:
            pace(size)
            self._send(path, file.read(), sha256)
        else:
            self._send(path, _parts(file, pace), sha256)
        self._require(path, size)
        return True

    def has(self, path: str, size: int, sha256: str) -> bool:
        """Whether it is there as it was sent: the store keeps the checksum of what it took, a directory the bytes."""
        with self._asking(absent_is_fine=True):
            if self._directory is not None:
                return self._obstore.head(self._opened, path)["size"] == size and self._hash(path) == sha256
            found = self._obstore.get(self._opened, path, options={"head": True})
            return found.meta["size"] == size and found.attributes.get("sha256") == sha256
        return False

    def _send(self, path: str, content: bytes | Iterator[bytes], sha256: str) -> None:
        # A directory has nowhere to keep it.
        attributes: Any = None if self._directory is not None else {"sha256": sha256}
        with self._asking():
            self._obstore.put(
                self._opened,
                path,
                content,
                attributes=attributes,
                use_multipart=not isinstance(content, bytes),
                chunk_size=PART_BYTES,
                max_concurrency=1,
            )
        if self._directory is not None:
            _sync(self._directory, path)

    def _require(self, path: str, size: int) -> None:
        with self._asking():
            found = self._obstore.head(self._opened, path)["size"]
        if found != size:
            raise UploadError(f"of {size} bytes {found} have arrived of {path}", is_lasting=False)

    def _hash(self, path: str) -> str:
        made = hashlib.sha256()
        for chunk in self._obstore.get(self._opened, path).stream(min_chunk_size=_HASH_BYTES):
            made.update(chunk)
        return made.hexdigest()

    @property
    def _opened(self) -> "AnyStore":
        if self._store is None:
            assert self._directory is not None
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UploadError(f"{str(self._directory)!r}: {error.strerror}", is_lasting=True) from error
            self._store = self._obstore.store.LocalStore(self._directory)
        return self._store

    @contextlib.contextmanager
    def _asking(self, *, absent_is_fine: bool = False) -> Iterator[None]:
        exceptions = self._obstore.exceptions
        try:
            yield
        except FileNotFoundError as error:
            text = str(error)
            is_missing_bucket = "NoSuchBucket" in text or "ContainerNotFound" in text
            if not absent_is_fine or is_missing_bucket:
                raise UploadError(reason_of(error), is_lasting=True) from error
        except (exceptions.BaseError, OSError, ValueError, NotImplementedError) as error:
            raise UploadError(reason_of(error), is_lasting=self._is_lasting(error)) from error
        except BaseException as error:
            # What a panic of the library becomes is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise UploadError(f"the library failed: {reason_of(error)}", is_lasting=False) from error

    def _is_lasting(self, error: Exception) -> bool:
        """Whether it is the same however often it is tried."""
        exceptions = self._obstore.exceptions
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return True
        text = str(error)
        status = STATUS.search(text)
        if status is not None:
            # Too many requests, too slow, and clocks that differ, pass.
            return status[1][0] in "34" and status[1][:3] not in ("408", "409", "425", "429")
        return self._directory is not None and _LASTING_LOCALLY.search(text) is not None


def _parts(file: BinaryIO, pace: Callable[[int], None]) -> Iterator[bytes]:
    while part := file.read(_HASH_BYTES):
        pace(len(part))
        yield part


def _sync(directory: Path, path: str) -> None:
    """A put of obstore into a directory is atomic, but not on disk yet."""
    try:
        for name, flags in ((path, os.O_RDONLY), (PurePath(path).parent, os.O_RDONLY | os.O_DIRECTORY)):
            descriptor = os.open(directory / name, flags | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
    except OSError as error:
        raise UploadError(error.strerror or str(error), is_lasting=False) from error
