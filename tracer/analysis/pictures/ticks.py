# SPDX-License-Identifier: Apache-2.0
"""Ticks of an axis at figures, and with units, that people know: bytes by powers of two, all else plainly."""

import math
from typing import Any, Final

from matplotlib.ticker import FuncFormatter, MaxNLocator

_PREFIXES: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi")


def binary_text(value: float, unit: str) -> str:
    """`1.5 GiB`, for 1610612736 and the unit `B`; three digits."""
    power = _power(value)
    amount = value / 1024**power
    return f"{amount:.3g} {_PREFIXES[power]}{unit}" if amount < 999.5 else f"{amount:.0f} {_PREFIXES[power]}{unit}"


def plain_text(value: float) -> str:
    """Four digits, never as a power of ten: `0.25`, `12000`."""
    if value == 0:
        return "0"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


PLAIN: Final = FuncFormatter(lambda value, _position: plain_text(value))
PERCENT: Final = FuncFormatter(lambda value, _position: f"{plain_text(100 * value)} %")


def binary_formatter(unit: str) -> FuncFormatter:
    """Of ticks of a `BinaryLocator`."""
    return FuncFormatter(lambda value, _position: binary_text(value, unit))


class BinaryLocator(MaxNLocator):
    """Ticks at round numbers of the largest binary unit that the axis reaches."""

    def __init__(self) -> None:
        super().__init__(nbins=6, steps=[1, 2, 2.5, 5, 10])

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Where they are, for an axis from `vmin` to `vmax`."""
        unit = 1024 ** _power(max(abs(vmin), abs(vmax)))
        return super().tick_values(vmin / unit, vmax / unit) * unit


def _power(value: float) -> int:
    power = 0
    while abs(value) >= 1023.5 and power < len(_PREFIXES) - 1:
        value /= 1024
        power += 1
    return power
