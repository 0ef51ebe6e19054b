"""Heads: the last layer and the loss in one, so that scores of all items are never all held.

A head scores n rows h (n, k) on m items, z = h Wᵀ + b and s = φ(z), with W (m, k), and
compares with the stored cells of X (n, m).  Its `loss` returns the value and dh, and adds dW
and db to the run; everything is multiplied by the run's share.

    KnownSquared     Σ_known w (x − s)²
    EverySquared     Σ_known w (x − s)² + w0 Σ_unknown (r0 − s)²
    Gaussian         ½ Σ_all (x − s)²,  x = 0 where unknown
    EveryLogistic    Σ_all [ln(1 + e^z) − x z],  x = 0 where unknown

KnownSquared reads and writes the known cells alone, O(nnz k).  The others need all scores:
they go through blocks of items, n × BLOCK at a time,

    dW_B = dz_Bᵀ h        db_B = Σ_u dz_uB        dh = Σ_B dz_B W_B

The multinomial head is in multinomial.py.  Derivatives by z are those of `losses.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.kernels import cells as kernels
from mfcore.nn.activations import sigmoid
from mfcore.nn.layers import Layer, Run, Transposed
from mfcore.nn.losses import squared
from mfcore.nn.parameters import Parameter
from mfcore.nn.sparse import times, transposed_times
from mfcore.parallel import row_chunks

# Items scored at a time; scores that may be kept between two passes (100 MB in float32);
# sums of dh that are made side by side.
BLOCK = 1024
KEPT = 25_000_000
SUMS = 16


@dataclass
class Target:
    """What rows should say: stored cells, and their weights.

    x : csr_array, shape (n, m)
    weights : ndarray, shape (nnz,), or None for 1
    """

    x: sp.csr_array
    weights: np.ndarray | None = None

    @cached_property
    def by_item(self) -> sp.csc_array:
        """The positions of the cells, by item."""
        positions = sp.csr_array((np.arange(self.x.nnz), self.x.indices, self.x.indptr),
                                 shape=self.x.shape)
        return positions.tocsc()

    def sort(self) -> None:
        """Sort the cells by item now, before several threads ask for them."""
        self.by_item                                                    # noqa: B018

    def cells(self, lo: int, hi: int) -> TargetCells:
        """Return the cells of items lo..hi, items numbered from lo."""
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


class Head(Layer):
    """A last layer with a loss; W (m, k) may be the first layer's: tied weights."""

    def __init__(self, W: Parameter, activation: str = "identity", *, name: str = "head"
                 ) -> None:
        self.layer = Transposed(W, activation, name=name)

    @property
    def W(self) -> Parameter:
        """Weights, shape (m, k)."""
        return self.layer.W

    @property
    def b(self) -> Parameter:
        """Offsets, shape (m,)."""
        return self.layer.b

    def parameters(self) -> list[Parameter]:
        """Return W and b."""
        return self.layer.parameters()

    def forward(self, x: np.ndarray, run: Run) -> tuple[np.ndarray, Any]:
        """Return s, shape (n, m), all of it."""
        return self.layer.forward(x, run)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> Any:
        """Return dh; add dW and db."""
        return self.layer.backward(dy, cache, run)

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW and db."""
        raise NotImplementedError

    def dense_loss(self, h: np.ndarray, y: np.ndarray, run: Run) -> tuple[float, np.ndarray]:
        """Return Σ_all (y − s)² for a dense target, and dh; add dW and db."""
        s, cache = self.layer.forward(h, run)
        value, ds = squared(s, y, run.share)
        return value, self.layer.backward(ds, cache, run)

    def add(self, dW: Any, db: np.ndarray, run: Run) -> None:
        """Add gradients to the run, but for what is frozen."""
        for parameter, gradient in ((self.W, dW), (self.b, db)):
            if not parameter.frozen:
                run.gradients.add(parameter, gradient)


class KnownSquared(Head):
    """Σ_known w (x − s)²."""

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW, of the rows that have cells, and db."""
        x, W, phi = target.x, self.W.value, self.layer.activation.formula
        z = np.empty(x.nnz, W.dtype)
        nobody = np.zeros(len(h), W.dtype)
        run.pool.over_rows(lambda lo, hi: kernels.cell_scores(
            x.indptr, x.indices, h, W, nobody, self.b.value, z, lo, hi), x.indptr)
        s = phi.value(z)
        value, ds = squared(s, x.data, _weight(target.weights, run.share))
        dz = sp.csr_array((ds * phi.slope(z, s), x.indices, x.indptr), shape=x.shape)
        db = np.bincount(x.indices, dz.data, minlength=len(W)).astype(W.dtype)
        self.add(transposed_times(dz, h, run.pool), db, run)
        return value, times(dz, W, run.pool)


class Everywhere(Head):
    """A loss of all cells, a block of items at a time."""

    def block(self, z: np.ndarray, cells: TargetCells, share: float) -> tuple[float, np.ndarray]:
        """Return the loss of a block of scores z (n, width), overwritten by dz."""
        raise NotImplementedError

    def loss(self, h: np.ndarray, target: Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW and db."""
        target.sort()

        def one(lo: int, hi: int) -> tuple[float, np.ndarray]:
            z = h @ self.W.value[lo:hi].T
            z += self.b.value[lo:hi]
            return self.block(z, target.cells(lo, hi), run.share)

        return self.collect(h, one, run)

    def collect(self, h: np.ndarray, block: Callable[[int, int], tuple[float, np.ndarray]],
                run: Run) -> tuple[float, np.ndarray]:
        """Return the sum of block losses and dh, and add dW and db, of dz by block."""
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
        return sum(values), _total(parts)


class EverySquared(Everywhere):
    """Σ_known w (x − s)² + w0 Σ_unknown (r0 − s)²."""

    def __init__(self, W: Parameter, activation: str = "identity", *, w0: float = 1.0,
                 r0: float = 0.0, name: str = "head") -> None:
        super().__init__(W, activation, name=name)
        self.w0, self.r0 = w0, r0

    def block(self, z: np.ndarray, cells: TargetCells, share: float) -> tuple[float, np.ndarray]:
        """Return the loss of a block, and dz."""
        formula, real = self.layer.activation.formula, z.dtype.type
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
    """½ Σ_all (x − s)², x = 0 where unknown: −ln N(x; s, 1) without its ½ ln 2π."""

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


def _groups(n_items: int) -> list[tuple[tuple[int, int], ...]]:
    """Return the blocks of items, in groups of which each makes a sum."""
    blocks = row_chunks(n_items, BLOCK)
    each = -(-len(blocks) // SUMS)
    return [tuple(blocks[start:start + each]) for start in range(0, len(blocks), each)]


def _total(parts: tuple[np.ndarray, ...]) -> np.ndarray:
    total: np.ndarray = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _square(e: np.ndarray) -> float:
    return float(np.vdot(e, e))


def _weight(weights: np.ndarray | None, share: float) -> Any:
    return share if weights is None else weights * weights.dtype.type(share)
