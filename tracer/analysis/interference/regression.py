# SPDX-License-Identifier: Apache-2.0
"""Weighted least squares from sums over groups of rows, with intervals that hold where neighbouring rows are alike.

Rows may be very many, so only sums are kept. Each row is compared with others of its own stretch of time alone: the
stretch's weighted mean is taken off every column. N rows, P columns, of which the last is the outcome, G groups.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

SAMPLES = 400
# Of a column's mean square: what keeps two columns that are always the same from having coefficients without bound.
_RIDGE = 1e-9


def without_means(columns: Floats, weights: Floats, stretch: Ints) -> Floats:
    """`columns` [N, P] less their weighted mean in each row's stretch, times the root of the weight.

    `stretch` [N] ascends.
    """
    if not len(stretch):
        return columns
    starts = np.flatnonzero(np.diff(stretch, prepend=stretch[0] - 1))
    lengths = np.diff(starts, append=len(stretch))
    # In place where it can be: these are the largest arrays there are.
    found = columns * weights[:, None]
    means = np.add.reduceat(found, starts, axis=0) / np.add.reduceat(weights, starts)[:, None]
    np.subtract(columns, np.repeat(means, lengths, axis=0), out=found)
    found *= np.sqrt(weights)[:, None]
    return found


def add_products(products: Floats, columns: Floats, group: Ints) -> None:
    """Adds to `products` [G, P, P] the products of `columns` [N, P] by group; `group` [N] ascends."""
    if not len(group):
        return
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    for low, high in zip(starts, [*starts[1:], len(group)], strict=True):
        products[group[low]] += columns[low:high].T @ columns[low:high]


def solve(products: Floats) -> Floats:
    """Coefficients [..., P - 1] from sums of products [..., P, P]; 0 for a column that is nothing but 0."""
    gram, outcome = products[..., :-1, :-1], products[..., :-1, -1:]
    diagonal = np.einsum("...ii->...i", gram)
    is_empty = diagonal <= 0
    scale = 1 / np.sqrt(np.where(is_empty, 1, diagonal))
    scaled = gram * scale[..., :, None] * scale[..., None, :]
    scaled = scaled + (_RIDGE + is_empty)[..., :, None] * np.eye(gram.shape[-1])
    found: Floats = (np.linalg.solve(scaled, outcome * scale[..., :, None]) * scale[..., :, None])[..., 0]
    return found


def solve_samples(products: Floats) -> Floats:
    """Coefficients [SAMPLES, P - 1] of as many bootstrap samples of the groups, always the same ones."""
    groups = len(products)
    random = np.random.default_rng(0)
    counts = random.multinomial(groups, np.full(groups, 1 / groups), size=SAMPLES).astype(np.float64)
    return solve((counts @ products.reshape(groups, -1)).reshape(SAMPLES, *products.shape[1:]))


def residuals(columns: Floats) -> Floats:
    """[N]: what the other columns of `columns` [N, P], means taken off, leave of the last one."""
    found: Floats = columns[:, -1] - columns[:, :-1] @ solve(columns.T @ columns)
    return found
