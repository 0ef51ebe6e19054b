"""A point of the parameter space of the quadratic objective."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mfcore.data.chunks import empty_beside

# The blocks of one side: vectors and biases of its rows, and of its features.
Side = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass
class Factors:
    """A point of the parameter space: P (n_users, k), Q (n_items, k), β and γ.

    G, g and H, h are the vectors and biases of the features of users and of items, shapes
    (n_features, k) and (n_features,); without features they are empty.
    """

    P: np.ndarray
    Q: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    G: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    H: np.ndarray = field(default_factory=lambda: np.zeros((0, 1)))
    g: np.ndarray = field(default_factory=lambda: np.zeros(0))
    h: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def copy(self) -> Factors:
        """Return a copy that shares no memory; what lies in a file is copied to a file."""
        made = {name: empty_beside(block, block.shape, block.dtype)
                for name, block in vars(self).items()}
        for name, block in vars(self).items():
            made[name][...] = block
        return Factors(**made)

    @property
    def of_users(self) -> Side:
        """P, β, G, g."""
        return self.P, self.beta, self.G, self.g

    @property
    def of_items(self) -> Side:
        """Q, γ, H, h."""
        return self.Q, self.gamma, self.H, self.h
