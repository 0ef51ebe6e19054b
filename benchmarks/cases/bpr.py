"""BPR: seconds to an NDCG@10 that both sides reach.

Rates were chosen on a tenth of the training choices, for each side.  The figure to reach is the
worse of the two best, and 1 % short of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Data, Task, both_reach
from benchmarks.data import first_rows, halves
from mfcore import BPR, evaluate

USERS = 5_000          # whose test choices are ranked


def judge(k: int, data: Data) -> Callable[..., float]:
    """Return NDCG@10 of any factors, of the first users with test choices."""
    test = data["test"].copy()
    test.data[test.indptr[min(USERS, test.shape[0])]:] = 0
    test.eliminate_zeros()
    model = BPR(k, n_epochs=1).fit(data["R"])

    def ndcg(P: np.ndarray, Q: np.ndarray, bias: np.ndarray | None = None) -> float:
        model.user_factors_, model.item_factors_, model.item_bias_ = P, Q, bias
        return evaluate(model, test, metrics="ndcg@10")["ndcg@10"]

    return ndcg


def ours(k: int, n_epochs: int, task: Task) -> None:
    """Fit, from the matrix on."""
    BPR(k, learning_rate=0.05, n_epochs=n_epochs, random_state=0, n_threads=task.n_threads).fit(
        task.data["R"], callbacks=[lambda model, _: task.keep(
            model.user_factors_, model.item_factors_, model.item_bias_)])


def implicit(k: int, n_epochs: int, task: Task) -> None:
    """Fit the peer, from the matrix on; its last factor is the bias."""
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(k, learning_rate=0.01, iterations=n_epochs,
                                        num_threads=task.n_threads, random_state=0)

    def keep(epoch: int, *_: object) -> None:
        if epoch % 2:
            task.keep(model.user_factors, model.item_factors)

    model.fit(sp.csr_matrix(task.data["R"]), show_progress=False, callback=keep)


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the case of this file."""
    k = widths[0]
    return [Case(
        f"bpr_{k}", f"BPR, k = {k}", "Σ −ln σ(s_ui − s_uj) + 0.01 of the squares, over drawn pairs",
        partial(halves, "choices"), first_rows,
        {"mfcore": Contestant(partial(ours, k, 20), "mfcore", "rate 0.05 / (1 + 0.2 t)"),
         "implicit": Contestant(partial(implicit, k, 50), "implicit", "rate 0.01, its default",
                                {"OPENBLAS_NUM_THREADS": "1"})},
        partial(judge, k), "NDCG@10", target=both_reach(0.01), higher=True, goal=3.0)]
