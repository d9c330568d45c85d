# SPDX-License-Identifier: Apache-2.0
"""Small text files of sysfs and /proc. Whatever they hold, nothing is raised: None is what cannot be read."""

import re
from pathlib import Path

from tracer.errors import TracerError
from tracer.kernel.cpus import format_cpu_list, parse_cpu_list

# More than a list of every second CPU of the largest machine.
_LONGEST_FILE = 1 << 20
_LONGEST_NAME = 200
_NUMBER = re.compile(r"[0-9]{1,18}")


def read_text(path: Path) -> str | None:
    """The text without blanks around it."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST_FILE).decode(errors="replace").strip()
    except OSError:
        return None


def read_name(path: Path) -> str | None:
    """A name or another short text; None for an empty one."""
    return harmless(read_text(path))


def read_number(path: Path) -> int | None:
    """A number of 0 or more; the kernel writes -1 for what it does not know."""
    text = read_text(path)
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def read_switch(path: Path) -> bool | None:
    """What is 1 if it is on."""
    number = read_number(path)
    return None if number is None else number == 1


def read_numbers(path: Path) -> list[int] | None:
    """Numbers with blanks between them."""
    numbers = (read_text(path) or "").split()
    return [int(number) for number in numbers] if numbers and all(map(_NUMBER.fullmatch, numbers)) else None


def read_cpus(path: Path) -> list[int] | None:
    """CPUs, or other things that the kernel numbers and lists alike."""
    text = read_text(path)
    try:
        return None if text is None else parse_cpu_list(text)
    except TracerError:
        return None


def read_cpu_list(path: Path) -> str | None:
    """The same in the kernel's own notation."""
    cpus = read_cpus(path)
    return None if cpus is None else format_cpu_list(cpus)


def harmless(text: str | None) -> str | None:
    """`text` cut to 200 characters, those that do not print as `\\x..` or `\\u....`; None for an empty one."""
    if not text:
        return None
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text[:_LONGEST_NAME]
    )
