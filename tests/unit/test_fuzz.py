# SPDX-License-Identifier: Apache-2.0
"""All that reads bytes from outside bears some that are nearly right. `make fuzz` tries a million."""

import random
from contextlib import suppress
from pathlib import Path

import pytest
from fuzz_mutation import damaged
from fuzz_targets import TARGETS, Target
from hypothesis import given, settings
from hypothesis import strategies as st

_EXAMPLES = 100


@pytest.mark.parametrize("target", TARGETS, ids=[target.name for target in TARGETS])
def test_it_bears_what_is_nearly_right(target: Target, tmp_path: Path) -> None:
    take = target.make(tmp_path)
    for seed in target.seeds:
        with suppress(*target.refuses):
            take(seed)

    @settings(max_examples=_EXAMPLES)
    @given(generator=st.randoms(use_true_random=False))
    def bears(generator: random.Random) -> None:
        with suppress(*target.refuses):
            take(damaged(target.seeds, generator))

    bears()
