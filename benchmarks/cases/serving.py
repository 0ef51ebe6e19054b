"""What a fitted model is asked: the best ten for everybody, new users' vectors, its NDCG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Data, Task, as_said
from benchmarks.cases.als import IMPLICIT, ONE
from benchmarks.data import first_rows, halves, stored
from mfcore import ImplicitMF, evaluate

NEW_USERS, BLOCK = 10_000, 1000


def fitted(k: int, size: str) -> Data:
    """Return choices and the factors of a fit to them, the same for every contestant."""
    data = halves("choices", size)

    def factors() -> Data:
        model = IMPLICIT(k, n_epochs=5, random_state=0).fit(data["R"])
        return {"P": model.user_factors_, "Q": model.item_factors_}

    return data | stored(f"factors-{k}-{size}", factors)


def few(data: Data) -> Data:
    """Return the same of the first users."""
    return first_rows(data) | {"P": data["P"][:200]}


def ours(task: Task) -> ImplicitMF:
    """Return a model with these factors."""
    data = task.data
    model = IMPLICIT(data["Q"].shape[1], n_epochs=1, random_state=0, n_threads=task.n_threads)
    model.fit(data["R"])
    model.user_factors_, model.item_factors_ = data["P"], data["Q"]
    return model


def implicit(task: Task) -> Any:
    """Return the peer with these factors."""
    from implicit.cpu.als import AlternatingLeastSquares

    model = AlternatingLeastSquares(task.data["Q"].shape[1], 5.0, num_threads=task.n_threads)
    model.user_factors, model.item_factors = task.data["P"], task.data["Q"]
    return model


def blocks(data: Data) -> list[slice]:
    """Return blocks of users."""
    return [slice(start, start + BLOCK) for start in range(0, len(data["P"]), BLOCK)]


# ------------------------------------------------------------------------------- top ten


def best_of_ours(task: Task) -> None:
    """Recommend to everybody."""
    model = ours(task)
    task.restart()
    task.keep(model.recommend(k=10)[0])


def best_of_implicit(task: Task) -> None:
    """Recommend to everybody."""
    model, R = implicit(task), sp.csr_matrix(task.data["R"])
    task.restart()
    task.keep(model.recommend(np.arange(R.shape[0]), R, N=10)[0])


def best_of_torch(task: Task) -> None:
    """Recommend to everybody, block by block."""
    import torch

    torch.set_num_threads(task.n_threads)
    P, Q, R = torch.from_numpy(task.data["P"]), torch.from_numpy(task.data["Q"]), task.data["R"]
    task.restart()
    best = []
    for block in blocks(task.data):
        scores, seen = P[block] @ Q.T, R[block].tocoo()
        scores[torch.from_numpy(seen.row), torch.from_numpy(seen.col)] = -torch.inf
        best.append(scores.topk(10, 1).indices)
    task.keep(torch.cat(best).numpy())


def sum_of_best(data: Data) -> Callable[..., float]:
    """Return the mean score of what is recommended."""
    P, Q = (data[name].astype(np.float64) for name in "PQ")
    return lambda items: float(np.mean([np.einsum("uf,ujf->uj", P[block], Q[items[block]]).mean()
                                        for block in blocks(data)]))


# ------------------------------------------------------------------------------ new users


def folded_by_ours(task: Task) -> None:
    """Solve new users."""
    model, new = ours(task), task.data["R"][:NEW_USERS]
    task.restart()
    task.keep(model.fold_in_users(new).factors)


def folded_by_implicit(task: Task) -> None:
    """Solve new users."""
    model, new = implicit(task), sp.csr_matrix(task.data["R"][:NEW_USERS])
    task.restart()
    task.keep(model.recalculate_user(np.arange(new.shape[0]), new))


def residual(data: Data) -> Callable[..., float]:
    """Return the largest relative residual of the first rows' equations, by definition."""
    Q, R = data["Q"].astype(np.float64), data["R"]
    G = Q.T @ Q + 5 * np.eye(Q.shape[1])

    def worst(P: np.ndarray) -> float:
        found = [0.0]
        for u in range(min(100, len(P))):
            q, c = Q[R[[u]].indices], R[[u]].data.astype(np.float64)
            right = c @ q
            error = (G + (q.T * (c - 1)) @ q) @ P[u] - right
            found.append(float(np.abs(error).max() / max(np.abs(right).max(), 1e-12)))
        return max(found)

    return worst


# ----------------------------------------------------------------------------- evaluation


def ndcg_of_ours(task: Task) -> None:
    """Measure on the test choices."""
    model = ours(task)
    task.restart()
    task.keep(evaluate(model, task.data["test"], metrics="ndcg@10",
                       n_threads=task.n_threads)["ndcg@10"])


def ndcg_of_implicit(task: Task) -> None:
    """Measure on the test choices."""
    from implicit.evaluation import ndcg_at_k

    model, train, test = (implicit(task), *(sp.csr_matrix(task.data[name])
                                            for name in ("R", "test")))
    task.restart()
    task.keep(ndcg_at_k(model, train, test, K=10, show_progress=False,
                        num_threads=task.n_threads))


def ndcg_of_irspack(task: Task) -> None:
    """Measure on the test choices, with scores by NumPy."""
    from irspack import Evaluator

    data = task.data
    task.restart()
    judge = Evaluator(sp.csr_matrix(data["test"]), cutoff=10, n_threads=task.n_threads,
                      masked_interactions=sp.csr_matrix(data["R"]))
    scores = (data["P"][block] @ data["Q"].T for block in blocks(data))
    task.keep(float(judge.get_score_from_score_chunks(scores)["ndcg"]))


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the cases of this file."""
    k = widths[0]
    asked: list[tuple[str, str, str, dict[str, tuple[Any, str]], Any, str, float | None]] = [
        ("top_ten", "the best ten for all users", "ten best unseen items of every user",
         {"mfcore": (best_of_ours, ""), "implicit": (best_of_implicit, ""),
          "torch": (best_of_torch, f"blocks of {BLOCK} users")}, sum_of_best, "mean score", 2.0),
        ("new_users", f"vectors of {NEW_USERS} new users", "the rows' equations, exactly",
         {"mfcore": (folded_by_ours, ""), "implicit": (folded_by_implicit, "")}, residual,
         "residual", None),
        ("evaluation", "NDCG@10 of all users", "NDCG@10 over all unseen items",
         {"mfcore": (ndcg_of_ours, ""), "implicit": (ndcg_of_implicit, ""),
          "irspack": (ndcg_of_irspack, "scores by NumPy")}, as_said, "NDCG@10, as it says", None)]
    return [Case(f"{name}_{k}", f"{title}, k = {k}", says, partial(fitted, k), few,
                 {peer: Contestant(run, peer, settings, ONE if peer == "implicit" else {})
                  for peer, (run, settings) in contestants.items()}, judge, figure, goal=goal)
            for name, title, says, contestants, judge, figure, goal in asked]
