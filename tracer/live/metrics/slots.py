# SPDX-License-Identifier: Apache-2.0
"""Who has one of few places: those who were there first, until somebody has much more weight."""

from collections.abc import Hashable, Mapping
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

TIMES_HEAVIER: Final = 2.0
"""With weights that are forgotten over minutes, nobody changes places with another again and again."""


class Slots(Generic[Key]):
    """Places for `most` keys, in `taken`."""

    def __init__(self, most: int) -> None:
        self.taken: set[Key] = set()
        self._most = most

    def choose(self, weights: Mapping[Key, float]) -> list[Key]:
        """Gives places by the weights of all who are there; returns those who had one and are there without it now.

        Who is not there any more leaves. Free places go to the heaviest; then who is twice as heavy as somebody with a
        place takes that one's.
        """
        self.taken.intersection_update(weights)
        # By name too, so that the same weights give the same places.
        waiting = sorted(weights.keys() - self.taken, key=lambda key: (-weights[key], str(key)))
        free = self._most - len(self.taken)
        self.taken.update(waiting[:free])
        put_out = []
        if len(waiting) > free:
            lightest = sorted(self.taken, key=lambda key: (weights[key], str(key)))
            for heavy, light in zip(waiting[free:], lightest, strict=False):
                if weights[heavy] <= TIMES_HEAVIER * weights[light]:
                    break
                self.taken.remove(light)
                self.taken.add(heavy)
                put_out.append(light)
        return put_out
