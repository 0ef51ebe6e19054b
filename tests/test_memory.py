"""Fits, lists and evaluations take no more memory than docs/limits.md states."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mfcore.metrics.topk import needed
from mfcore.solvers.linear import TILE

PEAKS = Path(__file__).with_name("peaks.py")
pytestmark = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK),
                                reason="a system that does not tell the peak of a process")
REST = 8_000_000                           # what does not grow with the data
SHAPE, PER_USER = (40_000, 15_000), 20
N, N_ITEMS = SHAPE[0] * PER_USER, SHAPE[1] + PER_USER


def vectors(k, size=4, n_users=SHAPE[0], n_items=N_ITEMS):
    """V of docs/limits.md."""
    return (n_users + n_items) * (-(-k // 16) * 16 + 8) * size


ITEMS = vectors(64, n_users=0)
# Only the fit is measured: the lists of "ALS" are made by the same functions, or a network ranks
# slowly.
FIT, FIT_TWO = (*SHAPE, PER_USER, 1, 0, 0), (*SHAPE, PER_USER, 2, 0, 0)
FEW = (*SHAPE, 3, 1, 0, 0)                 # ... of 3 ratings per user


def layers(n_items, hidden, n_latent, batch):
    """What a variational autoencoder needs: six times its numbers, and two dense batches."""
    numbers = 2 * n_items * hidden + 3 * hidden * n_latent + n_items + 2 * hidden + 2 * n_latent
    return 4 * (6 * numbers + 2 * batch * n_items)


GIVEN = {"reg": 1.0, "bias_reg": 1.0}           # penalties; to find them takes vectors of its own
# Class, parameters, users, items, ratings of each user, threads, groups, whether it is asked; and
# the bound of the fit.
CASES = {
    "ALS": ("MatrixFactorization", {"n_factors": 64, "n_epochs": 1, "unknown_weight": 0.1, **GIVEN},
            (*SHAPE, PER_USER, 2), 3 * vectors(64) + 2 * ITEMS),
    "ALS, penalties found": ("MatrixFactorization", {
        "n_factors": 64, "n_epochs": 1, "unknown_weight": 0.1}, FIT_TWO,
        (3 + 3) * vectors(64) + 2 * ITEMS),
    "ALS with groups": ("MatrixFactorization", {"n_factors": 64, "n_epochs": 1},
                        (*SHAPE, PER_USER, 2, 20), 2 * (vectors(64) + ITEMS) + 20 * SHAPE[0] * 64),
    "implicit, float64": ("ImplicitMF", {"n_factors": 64, "n_epochs": 1, "dtype": "float64"},
                          (*SHAPE, PER_USER, 1), 3 * vectors(64, 8) + 4 * ITEMS),
    "lbfgs": ("MatrixFactorization", {"n_factors": 32, "n_epochs": 12, "solver": "lbfgs"},
              FIT, 24 * vectors(32)),
    "lbfgs, float64": ("MatrixFactorization", {
        "n_factors": 32, "n_epochs": 12, "solver": "lbfgs", "dtype": "float64",
        "unknown_weight": 0.1, **GIVEN}, FIT_TWO, 13 * vectors(32, 8)),
    "adam": ("MatrixFactorization", {"n_factors": 64, "n_epochs": 2, "solver": "adam"},
             FIT, 5 * vectors(64) + 8 * N),
    "sgd": ("MatrixFactorization", {"n_factors": 64, "n_epochs": 2, "solver": "sgd"},
            FIT, 3 * vectors(64) + 12 * N),
    "sgd, unknown cells, 50 factors": ("MatrixFactorization", {
        "n_factors": 50, "n_epochs": 2, "solver": "sgd", "unknown_weight": 0.1},
        FIT, 5 * vectors(50) + 12 * N),
    "BayesianMF": ("BayesianMF", {"n_epochs": 8, "burn_in": 2, "keep": 6},
                   FIT, (2 * 6 + 3) * vectors(32)),
    "NeuralMF, two vectors": ("NeuralMF", {"n_epochs": 1}, FEW,
                              6 * vectors(2 * 64) + 20 * 3 * SHAPE[0]),
    "NeuralMF, one vector": ("NeuralMF", {"n_epochs": 1, "fusion": "product"}, FEW,
                             5 * vectors(64) + 20 * 3 * SHAPE[0]),
    "BPR": ("BPR", {"n_factors": 64, "n_epochs": 1}, FIT,
            3 * vectors(64) + 12 * N),
    "SoftmaxMF": ("SoftmaxMF", {"n_factors": 64, "n_epochs": 1}, FEW,
                  7 * vectors(64) + 16 * 3 * SHAPE[0]),
    "EASE": ("EASE", {}, (4_000, 2_500, 20, 1), 4 * 2_520 * (2_520 + 4 * TILE)),
    "GraphFilter": ("GraphFilter", {"n_factors": 48}, (30_000, 20_000, 5, 1),
                    4 * 80 * (30_000 + 3 * 20_005 + 80 * 15) + 16 * 30_000 * 5),
    "SparseEASE": ("SparseEASE", {"n_neighbors": 150}, (6_000, 5_000, 20, 1),
                   24 * 5_020 * 150 + 32 * 6_000 * 20),
    "MultVAE": ("MultVAE", {"n_epochs": 1, "hidden": [64], "n_latent": 32},
                (6_000, 5_000, 20, 1), layers(5_020, 64, 32, 500)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fit_its_lists_and_its_evaluation_stay_within_the_stated_memory(case):
    name, params, numbers, fitting = CASES[case]
    n_users, n_items, per_user, threads, *_ = numbers
    untraced = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    ran = subprocess.run([sys.executable, str(PEAKS), name, json.dumps(params),
                          *map(str, numbers)], capture_output=True, text=True, check=True,
                         env=untraced)
    peaks, size = json.loads(ran.stdout), 8 if "float64" in case else 4
    lists = needed(n_users, n_items + per_user, 20, threads, size)
    assert peaks["fit"] <= fitting + REST
    if "recommend" not in peaks:
        return
    assert peaks["recommend"] <= lists + REST
    assert peaks["evaluate"] <= lists - needed(n_users, 0, 20, 0, size) + 64 * 2 * n_users + REST
