"""All numbers of a network in one vector, of which its parameters are views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mfcore.nn.parameters import Parameter


def packed(parameters: Sequence[Parameter]) -> np.ndarray:
    """Move the values of parameters into one vector; they become views of it."""
    vector = np.concatenate([parameter.value.ravel() for parameter in parameters])
    unpack(vector, parameters)
    return vector


def unpack(vector: np.ndarray, parameters: Sequence[Parameter]) -> None:
    """Make parameters views of a vector that `packed` returned.

    Raises ValueError for a vector of another length.
    """
    sizes = [parameter.value.size for parameter in parameters]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"weights must have shape ({sum(sizes)},), got {vector.shape}")
    for parameter, part in zip(parameters, np.split(vector, np.cumsum(sizes)[:-1]),
                               strict=True):
        parameter.value = part.reshape(parameter.value.shape)
