"""Rows of a table plus vectors of what is known about them:  y_t = T[x_t] + F[x_t] G.

    F (n_rows, n_groups) sparse and given, such as the groups a row is in; G (n_groups, k)

    L gets + λ Σ_t ‖T[x_t]‖² + n Σ_g λ_g ‖G_g‖²         n uses; each pays for its row and for all G
    dT[r] = Σ_{t: x_t = r} (dy_t + 2 λ T[r])            G does not depend on T
    dG = Σ_t F[x_t]ᵀ dy_t + 2 n diag(λ_g) G             y_t is linear in G

The penalty moves all of G, so that its gradient is whole.  In an epoch of N uses λ_g = λ'/N
makes a penalty λ' ‖G‖², once.  Row −1 is nobody: zeros without a gradient, in no group.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from mfcore.nn.layers import Embedding, Run
from mfcore.nn.parameters import Parameter
from mfcore.nn.sparse import times, transposed_times


class GroupedEmbedding(Embedding):
    """y_t = T[x_t, column] + F[x_t, column] G.

    Parameters
    ----------
    table, column, reg : as in `Embedding`
    features : csr_array, shape (n_rows, n_groups)
        F.
    groups : Parameter, shape (n_groups, k)
        G.
    group_reg : ndarray, shape (n_groups,), >= 0
        λ_g, paid per use.
    """

    def __init__(self, table: Parameter, features: sp.csr_array, groups: Parameter,
                 column: int = 0, *, reg: float = 0.0, group_reg: np.ndarray) -> None:
        super().__init__(table, column, reg=reg)
        self.features, self.groups, self.group_reg = features, groups, group_reg

    def parameters(self) -> list[Parameter]:
        """Return the table and the vectors of groups."""
        return [self.table, self.groups]

    def take(self, rows: np.ndarray, run: Run, counts: np.ndarray) -> tuple[np.ndarray, Any]:
        """Return the lines (n, k) of distinct rows that are used `counts` times each."""
        y, cache = super().take(rows, run, counts)
        F, G, n = self.features[rows], self.groups.value, float(counts.sum())
        if not self.groups.frozen:
            squares = np.einsum("gf,gf->g", G, G, dtype=np.float64)
            run.penalty += n * run.share * float(self.group_reg @ squares)
        return y + times(F, G, run.pool), (cache, F, n)

    def give(self, dy: np.ndarray, cache: Any, run: Run) -> None:
        """Add the gradients of the rows and of all groups."""
        inner, F, n = cache
        super().give(dy, inner, run)
        if not self.groups.frozen:
            pull = (2 * n * run.share * self.group_reg).astype(dy.dtype)
            dG = pull[:, None] * self.groups.value
            transposed_times(F, dy, run.pool).add_to(dG)
            run.gradients.add(self.groups, dG)
