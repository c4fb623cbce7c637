"""The assignment problem: which query is matched with which mask, so that the costs add up to the least."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(costs: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Solve it exactly, by shortest augmenting paths (Jonker and Volgenant 1987, without their initial phase).

    Time grows with the shorter side squared times the longer one: for the few classes of an image it is nothing.

    Args:
        costs: ``(N, M)``, finite.

    Returns:
        Rows and columns of the pairs, ``min(N, M)`` each, rows ascending.
    """
    turned = costs.shape[0] > costs.shape[1]
    table = np.asarray(costs.T if turned else costs, np.float64)
    rows, columns = table.shape
    # Column 0 stands for the row that is being brought in; owner[j] is the row that has column j, -1 for none.
    row_price, column_price = np.zeros(rows), np.zeros(columns + 1)
    owner = np.full(columns + 1, -1)
    for row in range(rows):
        owner[0] = row
        path, distance = np.zeros(columns + 1, np.int64), np.full(columns + 1, np.inf)
        seen = np.zeros(columns + 1, bool)
        current = 0
        while owner[current] >= 0:
            seen[current] = True
            reached = table[owner[current]] - row_price[owner[current]] - column_price[1:]
            better = ~seen[1:] & (reached < distance[1:])
            distance[1:][better], path[1:][better] = reached[better], current
            following = int(np.where(seen, np.inf, distance)[1:].argmin()) + 1
            step = distance[following]
            row_price[owner[seen]] += step
            column_price[seen] -= step
            distance[~seen] -= step
            current = following
        while current:  # hand the columns on along the path, back to the new row
            owner[current] = owner[path[current]]
            current = int(path[current])
    column = np.flatnonzero(owner[1:] >= 0)
    pairs = (column, owner[1:][column]) if turned else (owner[1:][column], column)
    order = np.argsort(pairs[0])
    return pairs[0][order].astype(np.int64), pairs[1][order].astype(np.int64)
