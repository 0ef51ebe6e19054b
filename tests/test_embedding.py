"""Measures of vectors: known values where the answer is plain, and chance beside them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore.metrics import embedding
from mfcore.metrics.embedding import (
    effective_rank,
    independence,
    mean_cosine,
    mutual_information_gap,
    neighbour_purity,
    permutation_null,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def clusters(n=60, noise=0.05, seed=0):
    """Three directions, and noise; labels say which."""
    labels = np.arange(n) % 3
    return np.eye(3)[labels] + noise * rng(seed).normal(size=(n, 3)), labels


def test_neighbours_of_a_cluster_are_pure_and_those_of_noise_as_mixed_as_the_labels():
    X, labels = clusters()
    assert neighbour_purity(X, labels, k=5) == 1
    assert neighbour_purity(rng(1).normal(size=(3000, 5)), np.arange(3000) % 3) == \
        pytest.approx(1 / 3, abs=0.02)


def test_purity_by_hand_across_blocks_with_several_labels(monkeypatch):
    monkeypatch.setattr(embedding, "ROWS", 7)
    X = rng(2).normal(size=(30, 4))
    L = rng(3).random((30, 3)) < 0.4
    L[4] = False                                             # no label: left out
    kept = L.any(axis=1)
    U = X[kept] / np.linalg.norm(X[kept], axis=1, keepdims=True)
    S, shared = U @ U.T - 9 * np.eye(len(U)), []
    for i in range(len(U)):
        near = np.argsort(-S[i])[:3]
        shared += [(L[kept][i] & L[kept][j]).any() for j in near]
    assert neighbour_purity(X, sp.csr_array(L), k=3) == pytest.approx(np.mean(shared))


def test_the_length_of_vectors_does_not_count():
    X, labels = rng(5).normal(size=(40, 3)), np.arange(40) % 4
    scaled = X * rng(6).uniform(0.1, 9, (40, 1))
    assert neighbour_purity(scaled, labels) == neighbour_purity(X, labels)
    assert mean_cosine(scaled) == pytest.approx(mean_cosine(X))


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_the_effective_rank_counts_equal_directions(rank):
    Q, _ = np.linalg.qr(rng().normal(size=(50, 6)))
    Q = np.linalg.qr(Q - Q.mean(axis=0))[0]
    assert effective_rank(Q[:, :rank]) == pytest.approx(rank)


def test_the_effective_rank_of_one_point_is_none():
    assert effective_rank(np.ones((5, 3))) == 0


def test_mean_cosine_is_the_mean_over_pairs():
    X = rng().normal(size=(9, 3)) + 1
    X[4] = 0
    kept = np.delete(X, 4, axis=0)
    U = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    pairs = [(U[i] @ U[j]) for i in range(8) for j in range(8) if i != j]
    assert mean_cosine(X) == pytest.approx(np.mean(pairs))


def test_copied_columns_depend_and_orthogonal_ones_do_not():
    x = rng().normal(size=40)
    assert independence(np.column_stack([x, -2 * x, np.ones(40)])) == pytest.approx(0)
    Q = np.linalg.qr(np.column_stack([np.ones(40), rng(1).normal(size=(40, 3))]))[0][:, 1:]
    assert independence(Q) == pytest.approx(1)


def test_a_column_that_alone_tells_the_label_has_the_whole_gap():
    labels = np.arange(400) % 2
    noise = rng().normal(size=400)
    alone = np.column_stack([labels + 0.01 * noise, rng(1).normal(size=400)])
    both = np.column_stack([labels + 0.01 * noise, labels + 0.01 * rng(2).normal(size=400)])
    assert mutual_information_gap(alone, labels) > 0.9
    assert mutual_information_gap(both, labels) < 0.05
    several = sp.csr_array(np.column_stack([labels, np.ones(400)]))      # one does not vary
    assert mutual_information_gap(alone, several) == mutual_information_gap(alone, labels)


def test_chance_stands_beside_a_figure():
    X, labels = clusters()
    found = permutation_null(neighbour_purity, X, labels, n_permutations=30, k=5)
    assert found.value == 1
    assert found.null_mean == pytest.approx(1 / 3, abs=0.05)
    assert found.p == pytest.approx(1 / 31)
    noise = permutation_null(neighbour_purity, rng(1).normal(size=(60, 3)), labels,
                             n_permutations=30)
    assert noise.p > 0.03
    assert abs(noise.value - noise.null_mean) < 4 * noise.null_sd
    ranks = permutation_null(effective_rank, X, n_permutations=10)
    assert ranks.value < ranks.null_mean + 1e-9


@pytest.mark.parametrize(("call", "message"), [
    (lambda: effective_rank(np.ones(3)), r"X must have shape \(n, k\)"),
    (lambda: effective_rank([[np.nan, 1]]), "X must be finite"),
    (lambda: mean_cosine(np.zeros((3, 2))), "two rows that are not 0, got 0"),
    (lambda: independence(np.ones((3, 2))), "two columns that vary, got 0"),
    (lambda: neighbour_purity(np.ones((3, 2)), [1, 2]), "a row for each of the 3 rows"),
    (lambda: neighbour_purity(np.ones((3, 2)), [1, 2, 3], k=0), "k must be >= 1"),
    (lambda: mutual_information_gap(np.ones((3, 1)), [1, 2, 3]), "at least two columns"),
    (lambda: mutual_information_gap(np.ones((3, 2)), [1, 1, 1]), "one that varies"),
    (lambda: mutual_information_gap(np.ones((3, 2)), [1, 1]), "a row for each of the 3 rows")])
def test_what_cannot_be_measured_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
