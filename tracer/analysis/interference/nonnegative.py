# SPDX-License-Identifier: Apache-2.0
"""Least squares of which some coefficients cannot be below 0: harm is not negative. From sums of products."""

import numpy as np

from tracer.analysis.interference.regression import Bools, Floats, solve

_RIDGE = 1e-8
_ENOUGH = 1e-9


def solve_nonnegative(products: Floats, is_free: Bools) -> Floats:
    """Coefficients [P - 1] from sums of products [P, P], of which the last is the outcome; 0 for an empty column.

    Those that are not `is_free` [P - 1] are 0 or more (Lawson and Hanson 1974).
    """
    gram, outcome = products[:-1, :-1], products[:-1, -1]
    diagonal = np.diag(gram)
    scale = 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = gram * scale[:, None] * scale[None, :] + _RIDGE * np.eye(len(gram))
    target = outcome * scale
    free = np.flatnonzero(is_free & (diagonal > 0))
    bound = np.flatnonzero(~is_free & (diagonal > 0))
    # The free ones follow from the others.
    follow = np.linalg.solve(scaled[np.ix_(free, free)], np.column_stack([scaled[np.ix_(free, bound)], target[free]]))
    inner = scaled[np.ix_(bound, bound)] - scaled[np.ix_(bound, free)] @ follow[:, :-1]
    inner_target = target[bound] - scaled[np.ix_(bound, free)] @ follow[:, -1]
    values = _active_set(inner, inner_target)
    found = np.zeros(len(gram))
    found[bound] = values * scale[bound]
    found[free] = (follow[:, -1] - follow[:, :-1] @ values) * scale[free]
    return found


def solve_some(products: Floats, chosen: Bools) -> Floats:
    """Coefficients [..., P - 1] of the columns that are `chosen` [P - 1], 0 for all others; products [..., P, P]."""
    places = np.append(np.flatnonzero(chosen), products.shape[-1] - 1)
    found = np.zeros((*products.shape[:-2], products.shape[-1] - 1))
    found[..., places[:-1]] = solve(products[..., places[:, None], places[None, :]])
    return found


def _active_set(gram: Floats, target: Floats) -> Floats:
    values = np.zeros(len(target))
    active = np.zeros(len(target), np.bool_)
    for _step in range(3 * len(target)):
        gain = np.where(active, -1.0, target - gram @ values)
        if not len(gain) or gain.max() <= _ENOUGH * max(1.0, float(np.abs(target).max())):
            break
        active[gain.argmax()] = True
        while active.any():
            wanted = np.zeros(len(target))
            wanted[active] = np.linalg.solve(gram[np.ix_(active, active)], target[active])
            if (wanted[active] > 0).all():
                values = wanted
                break
            # As far towards it as none falls below 0.
            falls = active & (wanted <= 0)
            steps = values[falls] / np.maximum(values[falls] - wanted[falls], 1e-300)
            values = values + steps.min() * (wanted - values)
            active &= values > 1e-12
            values[~active] = 0.0
    return values
