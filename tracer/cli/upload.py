# SPDX-License-Identifier: Apache-2.0
"""`tracer upload`: once what `tracer run --upload` does all along, for what is left."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from tracer.cli.mistakes import of_option
from tracer.errors import OutputError, UsageError

if TYPE_CHECKING:
    from tracer.store.upload.course import Course
    from tracer.store.upload.object_store import UploadError
    from tracer.store.upload.uploader import Uploader

# What passes by itself has some minutes.
_MOST_ATTEMPTS: Final = 8


def upload(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `tracer run` wrote to.")],
    url: Annotated[str, typer.Argument(metavar="URL", help="s3://, gs://, az:// or file://, as of `run --upload`.")],
    rate: Annotated[
        str | None, typer.Option("--upload-rate", metavar="SIZE", help="So much of the network in a second, at most.")
    ] = None,
) -> None:
    """Upload what is not in the object store yet, after a crash or before a node goes. Live runs are left alone."""
    from tracer.cli.recover import recovery_lines, require_results
    from tracer.cli.saying import say
    from tracer.store.object_urls import check_target
    from tracer.store.recovery import recover
    from tracer.store.upload.course import Course, bandwidth
    from tracer.store.upload.object_store import ObjectStore
    from tracer.store.upload.uploader import Uploader
    from tracer.store.upload.uploads import Uploads
    from tracer.units import parse_bytes

    require_results(directory)
    output = directory.absolute()
    check_target(url, output)
    store = ObjectStore(url)
    bytes_per_second = None if rate is None else of_option("upload-rate", rate, parse_bytes)
    if bytes_per_second == 0:
        raise UsageError("--upload-rate must be more than 0")
    found = recover(output)
    for line in recovery_lines(found):
        say(line)
    for run_id in found.live:
        say(f"run {str(run_id)[:8]} is running, or being recovered: left alone")
    uploader = Uploader(output, store, Uploads(output, store.url), pace=bandwidth(bytes_per_second, time.sleep))
    failure = _upload(uploader, Course(store.url, say))
    done = uploader.done
    for path, reason in sorted(uploader.damaged.items()):
        say(f"{path} is not uploaded, as it cannot be read: {reason}")
    print(f"uploaded to {store.url}: {done.rows:,} rows in {done.files} files, {done.bytes / 1e6:.1f} MB")
    if failure is not None:
        left = uploader.left()
        raise OutputError(f"not uploaded: {left.files} files, {left.bytes / 1e6:.1f} MB: {failure}")
    if uploader.damaged:
        raise OutputError(f"not uploaded, as they cannot be read: {len(uploader.damaged)} files; they are named above")


def _upload(uploader: "Uploader", course: "Course") -> "UploadError | None":
    """What went wrong at last, if something did."""
    for attempt in range(_MOST_ATTEMPTS):
        failure = uploader.upload()
        if failure is None:
            course.succeed()
            return None
        if failure.is_lasting or attempt == _MOST_ATTEMPTS - 1:
            break
        time.sleep(course.fail(failure))
    return failure
