# SPDX-License-Identifier: Apache-2.0
"""What can be the URL of an object store, how obstore (of the extra `upload`) connects to it, and what its errors say.

Credentials, region and endpoint come from the environment, as the stores' own tools have them.
"""

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from tracer.errors import UsageError
from tracer.printable import printable
from tracer.suggestions import not_among

SCHEMES: Final = ("s3", "gs", "az", "file")
NO_CREDENTIALS: Final = "no credentials: the environment has none, as AWS_ACCESS_KEY_ID, nor has this machine a role"
# What an error says of the server's answer: "403 Forbidden".
STATUS: Final = re.compile(r"status code: ([0-9]{3}[ A-Za-z]*)")

_REQUEST_SECONDS: Final = 120
_LONGEST_REASON: Final = 200
_CODE: Final = re.compile(r"<Code>([A-Za-z0-9]{1,80})</Code>")
_MESSAGE: Final = re.compile(r'message: "([^"]{1,200})"')
_LOCAL_REASON: Final = re.compile(r"([A-Z][a-z -]{1,80}) \(os error [0-9]+\)")
_FROM_URL: Final = "the URL must be as s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or file:///DIR"
# Who names an endpoint without TLS, for a store on the same machine or network, means it.
_ENDPOINTS: Final = (
    "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT",
)  # fmt: skip
# Where machines of clouds are asked for their credentials, once the environment has none.
_METADATA: Final = ("169.254.169.254", "169.254.170.2", "metadata.google.internal")


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


def lacks_credentials(error: BaseException) -> bool:
    """Whether there were none in the environment, and this machine, of no cloud or without a role, has none either."""
    return any(place in str(error) for place in _METADATA)


def connection_options() -> dict[str, Any]:
    """How obstore is to connect. A request is tried again within seconds; what lasts longer is for who asks."""
    allow_http = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    return {
        "client_options": {
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=_REQUEST_SECONDS),
            **({"allow_http": True} if allow_http else {}),
        },
        "retry_config": {
            "max_retries": 3,
            "retry_timeout": timedelta(seconds=_REQUEST_SECONDS),
            "backoff": {
                "init_backoff": timedelta(milliseconds=200),
                "max_backoff": timedelta(seconds=5),
                "base": 2,
            },
        },
    }


def reason_of(error: BaseException) -> str:
    """In a few words what a library tells in pages."""
    if lacks_credentials(error):
        return NO_CREDENTIALS
    text = str(error)
    if (status := STATUS.search(text)) is not None:
        code = _CODE.search(text)
        return status[1].strip() + (f", {code[1]}" if code is not None else "")
    for pattern in (_LOCAL_REASON, _MESSAGE):
        if found := pattern.findall(text):
            return str(found[-1])
    first = text.partition("\n")[0].rpartition("HTTP error: ")[2]
    return printable(first.encode("utf-8", "backslashreplace"))[:_LONGEST_REASON] or type(error).__name__
