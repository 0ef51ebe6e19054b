"""The multinomial head: Σ_u [|x_u| ln Σ_j e^(z_uj) − x_u·z_u], |x_u| = Σ_i x_ui.

Softmax needs two passes over the blocks, as its gradient needs the sum of all exponentials:

    pass 1   t_uB = max_B z_u          e_uB = exp(z_uB − t_uB)          Z_uB = Σ_B e_uB
             t_u = max_B t_uB          Z_u = Σ_B Z_uB exp(t_uB − t_u)   ln Σ e^z = t_u + ln Z_u
    pass 2   dz_uB = |x_u| e_uB exp(t_uB − t_u) / Z_u − x_uB

Between the passes e is kept where it is small, n m <= KEPT; else pass 2 computes it anew, to
the same bits, at the price of one product more.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mfcore.nn import heads
from mfcore.nn.layers import Run
from mfcore.parallel import row_chunks


class Multinomial(heads.Everywhere):
    """Σ_u [|x_u| ln Σ_j e^(z_uj) − x_u·z_u]."""

    def loss(self, h: np.ndarray, target: heads.Target, run: Run) -> tuple[float, np.ndarray]:
        """Return the loss and dh; add dW and db."""
        target.sort()
        x, W, b = target.x, self.W.value, self.b.value
        blocks = row_chunks(len(W), heads.BLOCK)
        tops, sums = (np.empty((len(h), len(blocks)), h.dtype) for _ in range(2))
        likely = np.empty(len(blocks))
        kept: list[Any] = [None] * len(blocks)

        def exponentials(number: int) -> np.ndarray:
            """Return e of a block; write t, Z and x·z."""
            lo, hi = blocks[number]
            z = h @ W[lo:hi].T
            z += b[lo:hi]
            cells = target.cells(lo, hi)
            likely[number] = np.vdot(cells.x, z[cells.rows, cells.items])
            top = z.max(axis=1)
            z -= top[:, None]
            np.exp(z, out=z)
            tops[:, number], sums[:, number] = top, z.sum(axis=1)
            e: np.ndarray = z
            return e

        @np.errstate(over="ignore", invalid="ignore")
        def first(*numbers: int) -> None:
            for number in numbers:
                e = exponentials(number)
                kept[number] = e if len(h) * len(W) <= heads.KEPT else None

        run.pool.map(first, [(number,) for number in range(len(blocks))])
        size = np.asarray(x.sum(axis=1), h.dtype).reshape(-1, 1)
        top = tops.max(axis=1, keepdims=True)
        scale = np.exp(tops - top)
        Z = (sums * scale).sum(axis=1, keepdims=True)
        scale *= size / Z * h.dtype.type(run.share)

        def second(lo: int, hi: int) -> tuple[float, np.ndarray]:
            number = lo // heads.BLOCK
            dz, kept[number] = kept[number], None
            if dz is None:
                dz = exponentials(number)
            dz *= scale[:, number, None]
            cells = target.cells(lo, hi)
            dz[cells.rows, cells.items] -= cells.x * h.dtype.type(run.share)
            return 0.0, dz

        value = float((size * (top + np.log(Z))).sum(dtype=np.float64)) - float(likely.sum())
        return run.share * value, self.collect(h, second, run)[1]
