# SPDX-License-Identifier: Apache-2.0
"""The parts of an hour on the workers of a Spark, each of which needs tracer, and the credentials of the environment.

Spark sees to where parts run, and to another try where a worker is lost: a part that is done again writes the same.
"""

import os
import re
import sys
from collections.abc import Sequence
from typing import Final

from tracer.analysis.engines.on_spark import OnSpark
from tracer.analysis.file_checks import one_line
from tracer.analysis.fleet.compacting import Merge
from tracer.analysis.fleet.merging_periods import Part, merge_part
from tracer.errors import OutputError, TracerError, UsageError
from tracer.store.compactions import CompactedFile

# The last line of what Python says on a worker, in what Java says of it.
_RAISED: Final = re.compile(r"^\w+(?:Error|Exception): .*$", re.MULTILINE)


def merge_on_spark() -> Merge:
    """For `compact`. Raises UsageError where no session can be had, or a worker has no tracer."""
    context = OnSpark().session.sparkContext
    if (context.master or "").startswith("local") and "PYSPARK_PYTHON" not in os.environ:
        # Workers on this machine are to have what this process has.
        context.pythonExec = sys.executable

    def merge(parts: Sequence[Part]) -> list[list[CompactedFile]]:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            done = context.parallelize(list(parts), len(parts)).map(_merged).collect()
        except (PySparkException, Py4JError) as error:
            why = _RAISED.search(str(error))
            raise UsageError(f"--spark: a worker failed: {why[0] if why else one_line(error)}") from error
        files = []
        for one in done:
            if isinstance(one, TracerError):
                raise one
            files.append(one)
        return files

    return merge


def _merged(part: Part) -> list[CompactedFile] | TracerError:
    """What cannot be read or written is no better for being tried again, as Spark would."""
    try:
        return merge_part(part)
    except (UsageError, OutputError) as error:
        return type(error)(str(error))
