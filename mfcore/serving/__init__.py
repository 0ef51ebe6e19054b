"""Serve a saved model with NumPy alone: no compiler, no SciPy, an answer a moment after the start.

    from mfcore import serving
    model = serving.load("model.mfcore", mmap=True)
    items, scores = model.recommend([196], k=10)
    items, scores = model.recommend(ratings=["Alien", "Brazil"])            # a new user

It reads the files that `save` writes, and gives the lists of `recommend`.  Scores are

    s_u = μ + b_u + b̃ + Q P_u        models with vectors and biases
    s_u = x_u B                       EASE, and filters of items

and the vector of a new user solves the row system of the fit (objectives/quadratic.py).
"""

from __future__ import annotations

from mfcore.serving.served import Served, load

__all__ = ["Served", "load"]
