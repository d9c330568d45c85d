# SPDX-License-Identifier: Apache-2.0
"""Every error a user can meet, with its exit code.

    TracerError                exit 1   a defect, or something nobody foresaw
    ├── UsageError             exit 2   an option, a configuration file or an input is wrong
    ├── NodeUnsupportedError   exit 3   this node cannot run the tracer; `tracer doctor` says why
    └── OutputError            exit 4   the output cannot be written, or is full

The message is one line and says what to do. `tracer.cli.main` prints it to stderr and exits with the code;
errors of libraries are translated into these once, where they come in.
"""


class TracerError(Exception):
    """Base of all errors the tracer raises on purpose."""

    exit_code = 1


class UsageError(TracerError):
    """What the user asked for cannot be: a bad option, value, configuration file or input."""

    exit_code = 2


class NodeUnsupportedError(TracerError):
    """The node lacks something without which nothing can be measured."""

    exit_code = 3


class OutputError(TracerError):
    """The output directory cannot be written, or it is full and the user asked to stop then."""

    exit_code = 4
