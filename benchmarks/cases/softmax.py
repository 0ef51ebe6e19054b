"""An epoch of SoftmaxMF, next to the same steps in PyTorch.

The same start, and the same batches, negatives and weights on both sides, drawn before the clock
starts in PyTorch's case and in the epoch in ours; the losses found are printed with the
seconds.  PyTorch has embeddings with sparse gradients and SparseAdam, which moves the rows of a
batch alone, as ours does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Task, as_said
from benchmarks.data import all_of, first_rows
from mfcore.nn.optimizers import Adam
from mfcore.objectives.softmax import Batch, Ranked, Softmax, Vectors
from mfcore.parallel import Pool
from mfcore.solvers.softmax import Negatives, RankingAdam

CELLS, NEGATIVES, RATE, TAU = 1024, 1024, 0.01, 0.1


def started(R: sp.csr_array, k: int, dtype: Any = np.float32) -> tuple[RankingAdam, Vectors]:
    """Return the solver and the start of all contestants."""
    random = np.random.default_rng(1)
    at = Vectors(*((0.1 * random.standard_normal((n, k))).astype(dtype) for n in R.shape))
    negatives = Negatives(min(NEGATIVES, R.shape[1]), False)
    return RankingAdam(R, Ranked(Softmax(TAU), True), negatives, (None, None),
                       Adam(RATE, lazy=True), CELLS, seed=0), at


def ours(k: int, task: Task) -> None:
    """Take an epoch."""
    solver, at = started(task.data["R"], k)
    with Pool(task.n_threads) as pool:
        task.restart()
        task.keep(solver.epoch(at, pool))


def epoch_of_torch(at: Vectors) -> Callable[[list[Batch]], float]:
    """Return what takes PyTorch through given batches, and returns their mean loss."""
    import torch
    from torch.nn import functional

    P, Q = (torch.nn.Embedding.from_pretrained(torch.tensor(X), freeze=False, sparse=True)
            for X in (at.P, at.Q))
    adam = torch.optim.SparseAdam([*P.parameters(), *Q.parameters()], RATE)

    def epoch(batches: list[Batch]) -> float:
        total, n_cells = 0.0, sum(len(batch.users) for batch in batches)
        for batch in batches:
            x, y, z = (functional.normalize(table(torch.from_numpy(rows).long())) for table, rows
                       in ((P, batch.users), (Q, batch.items), (Q, batch.negatives)))
            S = x @ z.T / TAU + torch.from_numpy(np.log(batch.w)).to(x.dtype)
            S[tuple(map(torch.from_numpy, batch.hidden))] = -torch.inf
            own = (x * y).sum(1, keepdim=True) / TAU
            loss = functional.cross_entropy(torch.cat([own, S], 1),
                                            torch.zeros(len(x), dtype=torch.long))
            adam.zero_grad(set_to_none=True)
            loss.backward()
            adam.step()
            total += float(loss.detach()) * len(batch.users)
        return total / n_cells

    return epoch


def of_torch(k: int, task: Task) -> None:
    """Take the same epoch."""
    import torch

    torch.set_num_threads(task.n_threads)
    solver, at = started(task.data["R"], k)
    epoch, batches = epoch_of_torch(at), list(solver.batches())
    task.restart()
    task.keep(epoch(batches))


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the case of this file."""
    k = widths[0]
    return [Case(
        f"softmax_{k}", f"an epoch of SoftmaxMF, k = {k}",
        f"softmax over cosines; batches of {CELLS} cells and {NEGATIVES} negatives",
        partial(all_of, "choices"), partial(first_rows, n=40),
        {"mfcore": Contestant(partial(ours, k), "mfcore", "lazy Adam"),
         "torch": Contestant(partial(of_torch, k), "torch", "SparseAdam")},
        as_said, "training loss, as it says", goal=3.0)]
