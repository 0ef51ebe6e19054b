"""A filter on the graph of users and items: what is near, and what is smooth.

With X (n_users, n_items) of values >= 0, D_u and D_i its row and column sums on the diagonal,

    R = D_u^-1/2 X D_i^-1/2                                     singular values in [0, 1]
    s_u = x_u ( RᵀR + α D_i^-1/2 V Vᵀ D_i^1/2 )                   V: leading right singular vectors

Why.  RᵀR is the step item → user → item of a random walk, made symmetric: I − RᵀR is the
Laplacian of the items, and its eigenvectors of small eigenvalue 1 − σ² change little along edges.

    x RᵀR                         a filter whose response to an eigenvector of σ² is σ²: one layer
                                  of linear graph convolution
    x D_i^-1/2 V Vᵀ D_i^1/2       the ideal low-pass filter, 1 for the first k frequencies and 0
                                  beyond, in units of popularity

so that no weight is learned: the first reads neighbours at hand, the second what all of them say.

How many directions.  Without taste, E X = d dᵀ/S with S = Σ x, which is the leading pair, and the
rest of R is noise, of the same variance everywhere:

    Var R_ui = Var X_ui / (d_u d_i) ≈ (Σ x² / S) (d_u d_i / S) / (d_u d_i) = Σ x² / S²
    singular values up to (√n_users + √n_items) √(Σ x²) / S                       rows with choices

As it is computed.  With q_i = d_i^1/2 V_i, p_u = α Σ_j x_uj q_j / d_j:

    s_ui = d_i^-1/2 Σ_v X_vi / d_v Σ_j X_vj x_uj d_j^-1/2  +  p_u·q_i

two sparse products that never make items × items, and a product of vectors.  σ_1 = 1 bounds the
first part by ‖x_u‖ (with it, rounding).

Sources: Shen, Wu, Zhang, Shan, Zhang, Letaief, Li 2021 (GF-CF: "How powerful is graph convolution
for recommendation?", equations 12 to 14); Chung, Lu, Vu 2003 (singular values of chance).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import cells as cell_kernels
from mfcore.kernels import graph as kernels
from mfcore.objectives.factors import lengths
from mfcore.objectives.scaling import PER_DEGREE, ROOT, power, score_rounding


def degrees(cells: sp.csr_array, weighted: bool) -> np.ndarray:
    """Return the sums of rows, float64; the numbers of cells, unless they are weighted."""
    if not weighted:
        return np.asarray(np.diff(cells.indptr), np.float64)
    sums: np.ndarray = np.asarray(cells.sum(axis=1, dtype=np.float64)).ravel()
    return sums


@dataclass(frozen=True)
class Graph:
    """X in both orientations, and its degrees.

    by_user, by_item : csr_array, shapes (n_users, n_items), (n_items, n_users)
    weighted : whether values count; else every cell is 1
    user_degrees, item_degrees : ndarray, shapes (n_users,), (n_items,)
    """

    by_user: sp.csr_array
    by_item: sp.csr_array
    weighted: bool
    user_degrees: np.ndarray
    item_degrees: np.ndarray

    def __post_init__(self) -> None:
        found = self.user_degrees.shape, self.item_degrees.shape
        if found != (self.by_user.shape[:1], self.by_item.shape[:1]):
            raise ValueError(f"degrees must have one entry per row and column of X, "
                             f"{self.by_user.shape}, got {found}")

    def normalised(self, dtype: np.dtype) -> tuple[sp.csr_array, sp.csr_array]:
        """Return R and Rᵀ."""
        u, i = (power(d, ROOT, np.dtype(float)) for d in (self.user_degrees, self.item_degrees))
        return (_scaled(self.by_user, u, i, self.weighted, dtype),
                _scaled(self.by_item, i, u, self.weighted, dtype))

    @property
    def of_chance(self) -> float:
        """The largest singular value but one of R if users chose at random; 0 without choices."""
        n, m = (np.count_nonzero(d) for d in (self.user_degrees, self.item_degrees))
        squares = np.sum(np.square(self.by_user.data, dtype=np.float64)) if self.weighted else \
            self.by_user.nnz
        total = float(np.sum(self.user_degrees))
        return (n**0.5 + m**0.5) * float(squares)**0.5 / total if total else 0.0

    def vectors(self, rows: sp.csr_array, Q: np.ndarray, share: float) -> sp.csr_array:
        """Return the rows of x D_i⁻¹ α, whose product with Q is p."""
        per = share * power(self.item_degrees, PER_DEGREE, np.dtype(float))
        data = (rows.data * per[rows.indices]).astype(Q.dtype)
        return sp.csr_array((data, rows.indices, rows.indptr), shape=rows.shape)

    def contributions(self, columns: np.ndarray, values: np.ndarray, item: int, Q: np.ndarray,
                      share: float) -> np.ndarray:
        """Return what each of some rated items adds to the score of an item, float64."""
        d = self.item_degrees
        root, per = (power(d, each, np.dtype(float)) for each in (ROOT, PER_DEGREE))
        reach, own = self.by_item[[item]], np.zeros(self.by_item.shape[1])
        own[reach.indices] = (reach.data if self.weighted else 1.0) \
            * power(self.user_degrees, PER_DEGREE, np.dtype(float))[reach.indices]
        others = self.by_item[columns]
        ones = others if self.weighted else sp.csr_array(
            (np.ones(others.nnz), others.indices, others.indptr), shape=others.shape)
        near = root[columns] * (ones @ own) * root[item]
        smooth = share * per[columns] * (Q[columns].astype(float) @ Q[item].astype(float))
        return np.asarray(values * (near + smooth), np.float64)


def _scaled(cells: sp.csr_array, rows: np.ndarray, columns: np.ndarray, weighted: bool,
            dtype: np.dtype) -> sp.csr_array:
    data = np.repeat(rows, np.diff(cells.indptr)) * columns[cells.indices]
    if weighted:
        data *= cells.data
    return sp.csr_array((data.astype(dtype), cells.indices, cells.indptr), shape=cells.shape)


class GraphScorer:
    """Scores of sparse rows against all items: the walk, and the product of vectors.

    Parameters
    ----------
    rows : csr_array, shape (n_rows, n_items), in the precision of the scores
    graph : Graph
    P, Q : ndarray, shapes (n_rows, k), (n_items, k)
        p with α in it, and q.
    longest : float
        The greatest length of a row of Q.
    """

    def __init__(self, rows: sp.csr_array, graph: Graph, P: np.ndarray, Q: np.ndarray,
                 longest: float) -> None:
        self.rows, self.graph, self.P, self.Q, self.longest = rows, graph, P, Q, longest
        self.n_rows, self.n_items = rows.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return s of rows start..stop, shape (stop - start, n_items)."""
        rows, scores = self.rows[start:stop], np.empty((stop - start, self.n_items), self.Q.dtype)
        by_item, by_user, *rest = self._walk
        kernels.near_rows(rows.indptr, rows.indices, rows.data, *by_item, *by_user, *rest, scores)
        scores += self.P[start:stop] @ self.Q.T
        return scores

    def rounding(self, start: int, stop: int) -> np.ndarray:
        """Return how far s of a block may be from s of its cells, shape (stop - start,)."""
        return self._rounding[start:stop]

    def cells(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return s of cells, each computed alone."""
        return self.exact(rows, columns).astype(self.Q.dtype)

    def exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return s of cells in float64; 0 where a row or column is -1."""
        near, smooth = np.empty(len(rows), self.Q.dtype), np.empty(len(rows))
        by_item, _, *rest = self._walk
        kernels.near_cells(self.rows.indptr, self.rows.indices, self.rows.data, *by_item, *rest,
                           rows, columns, near)
        cell_kernels.pair_scores(rows, columns, self.P, self.Q, np.zeros(self.n_rows),
                                 np.zeros(self.n_items), smooth, 0, len(rows))
        found: np.ndarray = smooth + near
        return found

    @cached_property
    def _walk(self) -> tuple[Any, ...]:
        graph, real = self.graph, self.Q.dtype
        return (*((each.indptr, each.indices, each.data)
                  for each in (graph.by_item, graph.by_user)), graph.weighted,
                power(graph.item_degrees, ROOT, real), power(graph.user_degrees, PER_DEGREE, real))

    @cached_property
    def _rounding(self) -> np.ndarray:
        own = np.sqrt(np.asarray(self.rows.multiply(self.rows).sum(axis=1, dtype=float))).ravel()
        return score_rounding(lengths(self.P) * self.longest + own, self.P.shape[1], self.Q.dtype)
