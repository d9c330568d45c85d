# SPDX-License-Identifier: Apache-2.0
"""An object store by its URL (obstore, of the extra `upload`), and what becomes of its errors.

Credentials, region and endpoint come from the environment, as the stores' own tools have them. A request is tried again
a few times within seconds; what lasts longer is for who asks.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import unquote, urlsplit

from tracer.errors import UsageError
from tracer.suggestions import not_among

if TYPE_CHECKING:
    from obstore.store import ObjectStore as AnyStore

SCHEMES: Final = ("s3", "gs", "az", "file")
# What is larger goes in parts of this size, one after the other, of which one is in memory.
PART_BYTES: Final = 8 * 2**20

_HASH_BYTES: Final = 2**20
_REQUEST_SECONDS: Final = 120
_STATUS: Final = re.compile(r"status code: ([0-9]{3}[ A-Za-z]*)")
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,80})</Code>")
_MESSAGE: Final = re.compile(r'message: "([^"]{1,200})"')
_LOCAL_REASON: Final = re.compile(r"([A-Z][a-z -]{1,80}) \(os error (?:1|2|13|20|28|30|122)\)")
# Of the file system: not permitted, not there, not a directory, read-only.
_LASTING_LOCALLY: Final = re.compile(r"\(os error (?:1|2|13|20|30)\)")
NO_CREDENTIALS: Final = "no credentials: the environment has none, as AWS_ACCESS_KEY_ID, nor has this machine a role"
_FROM_URL: Final = "the URL must be as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIR"


# Where machines of clouds are asked for their credentials, once the environment has none.
_METADATA: Final = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


class UploadError(Exception):
    """What an object store did not do, and why, in few words. is_lasting: somebody must do something about it."""

    def __init__(self, reason: str, *, is_lasting: bool) -> None:
        super().__init__(reason)
        self.is_lasting = is_lasting


def check_url(url: str) -> None:
    """Raises UsageError for what is no URL of an object store, has credentials in it, or needs what is not here."""
    try:
        parts = urlsplit(url)
        _port = parts.port
    except ValueError as error:
        raise UsageError(f"not a URL: {url!r}; {_FROM_URL}") from error
    if parts.scheme not in SCHEMES:
        raise UsageError(f"{not_among('kind of URL', parts.scheme or url, SCHEMES)}; {_FROM_URL}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError("the URL must be without user, password, ? and #: credentials are from the environment")
    is_local = parts.scheme == "file"
    if is_local and (parts.netloc or not parts.path.startswith("/") or parts.path.strip("/") == ""):
        raise UsageError(f"{url!r}: of a directory it is file:///DIR")
    if not is_local and not parts.netloc:
        raise UsageError(f"{url!r} names no bucket; {_FROM_URL}")
    if not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError("the URL must be printable ASCII without blanks")
    if any(part in (".", "..") for part in unquote(parts.path).split("/")):
        raise UsageError("the URL must be without . and .. in its path")


def lacks_credentials(error: BaseException) -> bool:
    """Whether there were none in the environment, and this machine, of no cloud or without a role, has none either."""
    return any(place in str(error) for place in _METADATA)


def local_directory(url: str) -> Path | None:
    """Of a `file://` URL that was checked; None for others."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def check_target(url: str, output: Path) -> None:
    """As `check_url`, for results that lie in `output`: not a directory in it, or around it. Raises UsageError."""
    check_url(url)
    if (directory := local_directory(url)) is not None:
        target, source = directory.resolve(), output.resolve()
        if target == source or target in source.parents or source in target.parents:
            raise UsageError(f"{url!r} must be apart from the results in {str(output)!r}")


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
                self._store = _remote_store(url)
            except (obstore.exceptions.BaseError, ValueError) as error:
                raise UsageError(f"{url!r} cannot be used: {_reason(error)}") from error

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
                raise UploadError(_reason(error), is_lasting=True) from error
        except (exceptions.BaseError, OSError, ValueError, NotImplementedError) as error:
            raise UploadError(_reason(error), is_lasting=self._is_lasting(error)) from error
        except BaseException as error:
            # What a panic of the library becomes is no Exception.
            if type(error).__name__ != "PanicException":
                raise
            raise UploadError(f"the library failed: {_reason(error)}", is_lasting=False) from error

    def _is_lasting(self, error: Exception) -> bool:
        """Whether it is the same however often it is tried."""
        exceptions = self._obstore.exceptions
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return True
        text = str(error)
        status = _STATUS.search(text)
        if status is not None:
            # Too many requests, too slow, and clocks that differ, pass.
            return status[1][0] in "34" and status[1][:3] not in ("408", "409", "425", "429")
        return self._directory is not None and _LASTING_LOCALLY.search(text) is not None


def _remote_store(url: str) -> "AnyStore":
    from obstore.store import from_url

    # Who names an endpoint without TLS, for a store on the same machine or network, means it.
    endpoints = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
    allow_http = any(os.environ.get(name, "").startswith("http://") for name in endpoints)
    return from_url(
        url,
        client_options={
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
            **({"allow_http": True} if allow_http else {}),
        },
        retry_config={
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=_REQUEST_SECONDS),
            "backoff": {
                "init_backoff": timedelta(milliseconds=200),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        },
    )


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


def _reason(error: BaseException) -> str:
    """In a few words what a library tells in pages."""
    if lacks_credentials(error):
        return NO_CREDENTIALS
    text = str(error)
    if (status := _STATUS.search(text)) is not None:
        code = _CODE.search(text)
        return status[1].strip() + (f", {code[1]}" if code is not None else "")
    for pattern in (_LOCAL_REASON, _MESSAGE):
        if found := pattern.findall(text):
            return str(found[-1])
    first = text.partition("\n")[0].rpartition("HTTP error: ")[2]
    return first[:200] or type(error).__name__
