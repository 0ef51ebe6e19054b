"""A first layer whose code changes little when its input does: the contractive penalty, exactly.

h_j = φ(a_j), a = x W + b, so ∂h_j/∂x_i = φ'(a_j) W_ij, and for one row

    Ω = ‖∂h/∂x‖²_F = Σ_ij φ'(a_j)² W_ij² = Σ_j φ'(a_j)² c_j
    c_j = Σ_i W_ij²                     over all inputs: one vector for all rows
    c_uj = Σ_{i stored in u} W_ij²      over the inputs that the row has: (pattern of X) (W ∘ W)

Derivatives; W enters through a and through c:

    ∂Ω/∂a_j = 2 φ'(a_j) φ''(a_j) c_j
    ∂Ω/∂W_ij = x_i ∂Ω/∂a_j + 2 φ'(a_j)² W_ij      (the second only for stored i, if c is)
    ∂Ω/∂b_j = ∂Ω/∂a_j

The first is added to dz, which any layer turns into gradients of W and b.  The second, summed
over rows, is 2 W ∘ Σ_u φ'², or 2 W ∘ (patternᵀ φ'²).

Each row pays λ times the run's share.  There is no ½ in Ω.

Source: Rifai, Vincent, Muller, Glorot, Bengio 2011.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.nn.layers import Run, SparseLinear
from mfcore.nn.parameters import Rows
from mfcore.nn.sparse import times, transposed_times, with_values

INPUTS = ("all", "observed")


class Contractive(SparseLinear):
    """y = φ(x W + b) for a CSR batch; L gets + λ Σ_u Ω_u.

    Parameters
    ----------
    reg : float, >= 0
        λ.
    inputs : {"all", "observed"}
        The inputs that Ω sums over.
    """

    def __init__(self, *args: Any, reg: float, inputs: str = "all", **options: Any) -> None:
        super().__init__(*args, **options)
        self.reg = validation.real("contractive", reg, low=0)
        self.inputs = validation.choice("contractive_inputs", inputs, INPUTS)

    def forward(self, x: sp.csr_array, run: Run) -> tuple[np.ndarray, Any]:
        """Return y, shape (n, n_out)."""
        y, (x, _, z) = super().forward(x, run)
        W, weight = self.W.value, y.dtype.type(self.reg * run.share)
        slope = self.activation.formula.slope(z, y)
        c = np.einsum("ij,ij->j", W, W) if self.inputs == "all" else \
            times(with_values(x, np.ones_like(x.data)), W * W, run.pool)
        run.penalty += float((weight * slope * slope * c).sum(dtype=np.float64))
        return y, (x, y, z, slope, 2 * weight * slope, c)

    def backward(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add dW and db."""
        x, y, z, slope, pull, c = cache
        dz = dy * slope + pull * self.activation.formula.curvature(z, y) * c
        run.gradients.add(self.b, dz.sum(axis=0))
        run.gradients.add(self.W, self.weight_gradient(x, dz, run.pool))
        W, each = self.W.value, pull * slope                      # 2 λ φ'²
        if self.inputs == "all":
            run.gradients.add(self.W, W * each.sum(axis=0))
        else:
            pattern = with_values(x, np.ones_like(x.data))
            rows, sums, _ = transposed_times(pattern, each, run.pool)
            run.gradients.add(self.W, Rows(rows, W[rows] * sums))
