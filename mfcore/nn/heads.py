"""Heads: the last layer and the loss in one, so that the scores of all items are never all held.

A head scores n rows h (n, k) on m items, z = h Wᵀ + b and s = φ(z) with W (m, k), and
compares them with the stored cells of X (n, m).  Its `loss` returns the value and dh, and adds
dW and db to the run; all are multiplied by the run's share.

    KnownSquared     Σ_known w (x − s)²
    EverySquared     Σ_known w (x − s)² + w0 Σ_unknown (r0 − s)²
    Gaussian         ½ Σ_all (x − s)²,  x = 0 where unknown
    EveryLogistic    Σ_all [ln(1 + e^z) − x z],  x = 0 where unknown
    Multinomial      −Σ_u Σ_i x_ui ln π_ui,  π_u = softmax(z_u) = e^z_u / Σ_j e^z_uj
                     = Σ_u [|x_u| ln Σ_j e^z_uj − x_u·z_u],  |x_u| = Σ_i x_ui

KnownSquared reads and writes only the known cells, O(nnz k).  The others need all scores, and
go through blocks of items, n × BLOCK at a time:

    dW_B = dz_Bᵀ h        db_B = Σ_u dz_uB        dh = Σ_B dz_B W_B

Derivatives by z are those of `losses.py`, and dz_u = |x_u| π_u − x_u for the multinomial.  As
softmax and loss are one function, no logarithm is taken of what may round to 0.  Its gradient
needs the sum of all exponentials, so there are two passes over the blocks.  Subtracting the
largest score changes nothing but keeps the exponentials finite:

    pass 1   t_uB = max_B z_u          e_uB = exp(z_uB − t_uB)          Z_uB = Σ_B e_uB
             t_u = max_B t_uB          Z_u = Σ_B Z_uB exp(t_uB − t_u)   ln Σ e^z = t_u + ln Z_u
    pass 2   dz_uB = |x_u| e_uB exp(t_uB − t_u) / Z_u − x_uB

Between the passes e is kept if it is small, n m <= KEPT.  Otherwise pass 2 computes it again, to
the same bits, at the price of one more product.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import cells as kernels
from mfcore.nn.activations import sigmoid
from mfcore.nn.layers import Run, Transposed
from mfcore.nn.losses import squared
from mfcore.nn.parameters import Parameter
from mfcore.nn.sparse import times, transposed_times, with_values
from mfcore.parallel import row_chunks

BLOCK = 1024            # items scored at a time
KEPT = 25_000_000       # scores that may be kept between two passes (100 MB in float32)
SUMS = 16               # sums of dh that are made in parallel


@dataclass
class Target:
    """What the scores of rows should be: stored cells, and their weights.

    x : csr_array, shape (n, m)
    weights : ndarray, shape (nnz,), or None for 1
    """

    x: sp.csr_array
    weights: np.ndarray | None = None

    @cached_property
    def by_item(self) -> sp.csc_array:
        """The positions of the cells, by item."""
        return with_values(self.x, np.arange(self.x.nnz)).tocsc()

    def sort(self) -> None:
        """Sort the cells by item now, before several threads ask for them."""
        self.by_item                                                    # noqa: B018

    def cells(self, lo: int, hi: int) -> TargetCells:
        """Return the cells of items lo..hi, with items numbered from lo."""
        part = slice(*self.by_item.indptr[[lo, hi]])
        items = np.repeat(np.arange(hi - lo), np.diff(self.by_item.indptr[lo:hi + 1]))
        positions = self.by_item.data[part]
        return TargetCells(self.by_item.indices[part], items, positions, self.x.data[positions],
                     None if self.weights is None else self.weights[positions])


class TargetCells(NamedTuple):
    """Stored cells of a block: rows, items, positions in the target, values and weights."""

    rows: np.ndarray
    items: np.ndarray
    positions: np.ndarray
    x: np.ndarray
    weights: np.ndarray | None


class Head(Transposed):
    """A last layer with a loss; W (m, k) may be that of the first layer: tied weights."""

    def __init__(self, W: Parameter, activation: str = "identity") -> None:
        super().__init__(W, activation, name="head")

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW and db."""
        raise NotImplementedError

    def dense_loss(self, h: np.ndarray, y: np.ndarray, run: Run) -> tuple[float, np.ndarray]:
        """Return Σ_all (y − s)² for a dense target, and dh; add dW and db."""
        s, cache = self.forward(h, run)
        value, ds = squared(s, y, run.share)
        return value, self.backward(ds, cache, run)

    def add(self, dW: Any, db: np.ndarray, run: Run) -> None:
        """Add gradients to the run, except for frozen parameters."""
        for parameter, gradient in ((self.W, dW), (self.b, db)):
            if not parameter.frozen:
                run.gradients.add(parameter, gradient)


class KnownSquared(Head):
    """Σ_known w (x − s)²."""

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add db, and dW of the rows that have cells."""
        x, W, phi = target.x, self.W.value, self.activation.formula
        z, no_bias = np.empty(x.nnz, W.dtype), np.zeros(len(h), W.dtype)
        run.pool.over_rows(lambda lo, hi: kernels.cell_scores(
            x.indptr, x.indices, h, W, no_bias, self.b.value, z, lo, hi), x.indptr)
        s = phi.value(z)
        value, ds = squared(s, x.data, _weight(target.weights, run.share))
        dz = with_values(x, ds * phi.slope(z, s))
        db = np.bincount(x.indices, dz.data, minlength=len(W)).astype(W.dtype)
        self.add(transposed_times(dz, h, run.pool), db, run)
        return value, times(dz, W, run.pool)


class Everywhere(Head):
    """A loss of all cells, computed one block of items at a time."""

    def block(self, z: np.ndarray, cells: TargetCells, share: float) -> tuple[float, np.ndarray]:
        """Return the loss of a block of scores z (n, width), and dz; z may be overwritten."""
        raise NotImplementedError

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW and db."""
        target.sort()

        return self.collect(h, lambda lo, hi: self.block(
            self.scores(h, lo, hi), target.cells(lo, hi), run.share), run)

    def scores(self, h: np.ndarray, lo: int, hi: int) -> np.ndarray:
        """Return z of items lo..hi, shape (n, hi - lo)."""
        z: np.ndarray = h @ self.W.value[lo:hi].T
        z += self.b.value[lo:hi]
        return z

    def collect(self, h: np.ndarray, block: Callable[[int, int], tuple[float, np.ndarray]],
                run: Run) -> tuple[float, np.ndarray]:
        """Return the sum of the losses of blocks, and dh; add dW and db.

        block(lo, hi) returns the loss of items lo..hi, and dz.
        """
        W = self.W.value
        dW, db = np.empty_like(W), np.empty_like(self.b.value)

        @np.errstate(over="ignore", invalid="ignore")
        def some(*blocks: tuple[int, int]) -> tuple[float, np.ndarray]:
            total, dh = 0.0, np.zeros_like(h)
            for lo, hi in blocks:
                value, dz = block(lo, hi)
                total += value
                if not self.W.frozen:
                    np.matmul(dz.T, h, out=dW[lo:hi])
                np.sum(dz, axis=0, out=db[lo:hi])
                dh += dz @ W[lo:hi]
            return total, dh

        values, parts = zip(*run.pool.map(some, _groups(len(W))), strict=True)
        self.add(dW, db, run)
        return sum(values), reduce(operator.iadd, parts)


class EverySquared(Everywhere):
    """Σ_known w (x − s)² + w0 Σ_unknown (r0 − s)²."""

    def __init__(self, W: Parameter, activation: str = "identity", *, w0: float = 1.0,
                 r0: float = 0.0) -> None:
        super().__init__(W, activation)
        self.w0, self.r0 = w0, r0

    def block(self, z: np.ndarray, cells: TargetCells, share: float) -> tuple[float, np.ndarray]:
        """Return the loss of a block, and dz."""
        formula, real = self.activation.formula, z.dtype.type
        s = formula.value(z)
        e, at = s - real(self.r0), (cells.rows, cells.items)
        known = s[at] - cells.x
        w = _weight(cells.weights, share)
        unknown = self.w0 * share * (_square(e) - _square(e[at]))
        ds = real(2 * self.w0 * share) * e
        ds[at] = 2 * w * known
        return unknown + float(np.sum(w * known * known, dtype=np.float64)), \
            ds * formula.slope(z, s)


class Gaussian(EverySquared):
    """½ Σ_all (x − s)², x = 0 where unknown: Σ −ln N(x; s, 1) without its terms ½ ln 2π."""

    def block(self, z: np.ndarray, cells: TargetCells, share: float) -> tuple[float, np.ndarray]:
        """Return the loss of a block, and dz."""
        return super().block(z, cells, share / 2)


class EveryLogistic(Everywhere):
    """Σ_all [ln(1 + e^z) − x z]."""

    def block(self, z: np.ndarray, cells: TargetCells, share: float) -> tuple[float, np.ndarray]:
        """Return the loss of a block, and dz."""
        at = (cells.rows, cells.items)
        value = float(np.logaddexp(0, z).sum(dtype=np.float64)) \
            - float(np.vdot(cells.x, z[at]))
        dz = sigmoid(z)
        dz[at] -= cells.x
        dz *= z.dtype.type(share)
        return share * value, dz


class Multinomial(Everywhere):
    """Σ_u [|x_u| ln Σ_j e^z_uj − x_u·z_u]."""

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW and db."""
        target.sort()
        n_items = len(self.W.value)
        blocks = row_chunks(n_items, BLOCK)
        tops, sums = (np.empty((len(h), len(blocks)), h.dtype) for _ in range(2))
        likely = np.empty(len(blocks))
        kept: list[Any] = [None] * len(blocks)

        def exponentials(number: int) -> np.ndarray:
            """Return e of a block; write t, Z and x·z."""
            lo, hi = blocks[number]
            z, cells = self.scores(h, lo, hi), target.cells(lo, hi)
            likely[number] = np.vdot(cells.x, z[cells.rows, cells.items])
            top = z.max(axis=1)
            z -= top[:, None]
            np.exp(z, out=z)
            tops[:, number], sums[:, number] = top, z.sum(axis=1)
            return z

        @np.errstate(over="ignore", invalid="ignore")
        def first(*numbers: int) -> None:
            for number in numbers:
                e = exponentials(number)
                kept[number] = e if len(h) * n_items <= KEPT else None

        run.pool.map(first, [(number,) for number in range(len(blocks))])
        size = np.asarray(target.x.sum(axis=1), h.dtype).reshape(-1, 1)
        top = tops.max(axis=1, keepdims=True)
        scale = np.exp(tops - top)
        Z = (sums * scale).sum(axis=1, keepdims=True)
        scale *= size / Z * h.dtype.type(run.share)

        def second(lo: int, hi: int) -> tuple[float, np.ndarray]:
            number = lo // BLOCK
            dz, kept[number] = kept[number], None
            if dz is None:
                dz = exponentials(number)
            dz *= scale[:, number, None]
            cells = target.cells(lo, hi)
            dz[cells.rows, cells.items] -= cells.x * h.dtype.type(run.share)
            return 0.0, dz

        value = float((size * (top + np.log(Z))).sum(dtype=np.float64)) - float(likely.sum())
        return run.share * value, self.collect(h, second, run)[1]


def _groups(n_items: int) -> list[tuple[tuple[int, int], ...]]:
    """Return the blocks of items in groups; each group makes one sum of dh."""
    blocks = row_chunks(n_items, BLOCK)
    each = -(-len(blocks) // SUMS)
    return [tuple(blocks[start:start + each]) for start in range(0, len(blocks), each)]


def _square(e: np.ndarray) -> float:
    return float(np.vdot(e, e))


def _weight(weights: np.ndarray | None, share: float) -> Any:
    return share if weights is None else weights * weights.dtype.type(share)
