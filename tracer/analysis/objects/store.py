# SPDX-License-Identifier: Apache-2.0
"""An object store as what asks about recordings sees it: lists, reads and copies, and what replaces objects there."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from tracer.errors import OutputError, UsageError
from tracer.printable import printable
from tracer.store.object_urls import check_url, connection_options, local_directory, reason_of

_AT_ONCE: Final = 32
_LONGEST_MANIFEST: Final = 16 * 2**20
_CHUNK_BYTES: Final = 8 * 2**20

_T = TypeVar("_T")
_R = TypeVar("_R")


class Listed(NamedTuple):
    """The names directly below a prefix: of further prefixes, and of objects."""

    prefixes: list[str]
    objects: list[str]


def is_url(name: str) -> bool:
    """Whether it is a URL, of whatever kind."""
    return "://" in name


def to_url(name: str) -> str:
    """A URL as it is, and a directory as one."""
    return name if is_url(name) else Path(name).absolute().as_uri()


class ObjectStore:
    """What lies below a URL. Paths are relative to it. All methods raise UsageError, with one line that has the URL.

    A directory of this machine is made if `make`, else it has to be there.
    """

    def __init__(self, url: str, *, make: bool = False) -> None:
        check_url(url)
        if find_spec("obstore") is None:
            raise UsageError(f"{url}: object stores need the package obstore: pip install 'tracer[upload]'")
        from obstore.store import from_url

        self.url = url.rstrip("/")
        if self.directory is not None and make:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(f"{self._at('')}: {error.strerror}") from error
        if self.directory is not None and not self.directory.is_dir():
            raise UsageError(f"{self._at('')}: there is no such directory")
        with self._told(""):
            # A file system has no connections.
            self._store: Any = from_url(self.url, **({} if self.directory is not None else connection_options()))

    @property
    def directory(self) -> Path | None:
        """Where it is on this machine, if it is."""
        return local_directory(self.url)

    def location(self, path: str) -> str:
        """What an engine calls the object at `path`: its URL, or its path on this machine."""
        return f"{self.url}/{path}" if self.directory is None else str(self.directory / path)

    def list(self, prefix: str) -> Listed:
        """What is directly below `prefix`; nothing where that is not."""
        import obstore

        with self._told(prefix):
            found = obstore.list_with_delimiter(self._store, prefix)
            return Listed(
                sorted(_last(one) for one in found["common_prefixes"]),
                sorted(_last(one["path"]) for one in found["objects"]),
            )

    def read(self, path: str) -> bytes:
        """A manifest's content."""
        import obstore

        with self._told(path):
            got = obstore.get(self._store, path)
            if got.meta["size"] > _LONGEST_MANIFEST:
                raise UsageError(f"{self.url}/{path}: a manifest has at most {_LONGEST_MANIFEST} bytes")
            return bytes(got.bytes())

    def copy(self, path: str, to: Path) -> None:
        """Copies an object to a file of this machine; of what is on it already, a link does. Raises OSError too."""
        to.parent.mkdir(parents=True, exist_ok=True)
        if self.directory is not None:
            source = self.directory / path
            if not source.is_file():
                raise self._missing(path)
            to.symlink_to(source.absolute())
            return
        import obstore

        with self._told(path), to.open("wb") as file:
            for chunk in obstore.get(self._store, path).stream(min_chunk_size=_CHUNK_BYTES):
                file.write(chunk)

    def write(self, path: str, content: bytes | Path) -> None:
        """Makes or replaces an object, as a whole. Raises OutputError where that cannot be."""
        import obstore

        try:
            with self._told(path):
                obstore.put(self._store, path, content)
        except UsageError as error:
            raise OutputError(str(error)) from error

    def delete(self, paths: Sequence[str]) -> None:
        """Removes objects; those that are gone are no mistake. Raises OutputError where that cannot be."""
        import obstore

        for path in paths:
            try:
                with self._told(path):
                    obstore.delete(self._store, path)
            except UsageError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise OutputError(str(error)) from error

    def of_each(self, do: Callable[[_T], _R], items: Sequence[_T]) -> Iterator[_R]:
        """What `do` gives for each, several at once, in order."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            yield from pool.map(do, items)

    @contextmanager
    def _told(self, path: str) -> Iterator[None]:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except FileNotFoundError as error:
            raise self._missing(path) from error
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise UsageError(f"{self._at(path)}: access is denied: {reason_of(error)}") from error
        except (BaseError, ValueError) as error:
            raise UsageError(f"{self._at(path)}: {reason_of(error)}") from error

    def _missing(self, path: str) -> UsageError:
        return UsageError(f"{self._at(path)}: there is no such object, or no such bucket")

    def _at(self, path: str) -> str:
        return printable("/".join(filter(None, (self.url, path))).encode("utf-8", "backslashreplace"))


def _last(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]
