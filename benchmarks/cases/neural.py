"""An epoch of NeuralMF, and steps of MultVAE, next to the same networks in PyTorch.

The same layers, start (of NeuralMF; a draw of its own for MultVAE), batches in the same order and
Adam on both sides; the losses are given next to the seconds.  PyTorch has what suits it:
SparseAdam for the embeddings or fused Adam for all of NeuralMF, and dense rows with fused Adam for
MultVAE.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from benchmarks.case import Case, Contestant, Data, Task, as_said
from benchmarks.data import all_of, first_rows, stored
from benchmarks.generated import generated
from mfcore import MultVAE, Ratings, fetch
from mfcore.models.pairs.fusion import Architecture, Tables
from mfcore.nn.layers import Linear
from mfcore.nn.losses import squared
from mfcore.nn.network import Blocks, Trainer, blocks_of
from mfcore.nn.optimizers import Adam
from mfcore.nn.parameters import packed
from mfcore.parallel import Pool
from mfcore.solvers.neural import NeuralSGD, TrainingCells

CELLS, RATE, HIDDEN = 1024, 1e-3, (128, 64, 32)
ROWS, STEPS, BETA = 500, 12, 0.2
SIZES = ("small", "medium", "large")

# --------------------------------------------------------------------- pairs: NeuralMF

# Users, items and ratings of the large set.
FIVE_MILLION = (60_000, 12_000, 5_000_000)


def known_pairs(size: str) -> Data:
    """Return R: generated ratings, five million of them where the size is large."""
    if size == "large":
        return stored("ratings-5m", lambda: {"R": generated(*FIVE_MILLION)})
    return all_of("ratings", size)


def ml100k(size: str) -> Data:
    """Return R: ML-100K, whatever the size."""
    return {"R": fetch("ml-100k").ratings.by_user}



class Start(NamedTuple):
    """The network's form, both tables and the head at their start, and the cells."""

    shape: Architecture
    sides: tuple[Tables, Tables]
    head: list[Linear]
    known: TrainingCells


def started(R: sp.csr_array, k: int, dtype: Any = np.float32) -> Start:
    """Return the start of all contestants; in double precision, the same numbers."""
    random, dtype = np.random.default_rng(1), np.dtype(dtype)
    shape = Architecture("concat", k, HIDDEN, "relu", 0.0, False, np.dtype(np.float32))
    sides = [shape.drawn(name, n, 0.3, random)
             for name, n in zip(("user", "item"), R.shape, strict=True)]
    head = shape.head(random)
    for parameter in (p for each in (*sides, *head) for p in each.parameters()):
        parameter.value = parameter.value.astype(dtype)
    known = TrainingCells(R, (R.data - R.data.mean()).astype(np.float32).astype(dtype))
    return Start(shape, (sides[0], sides[1]), head, known)


def solver_of(start: Start, lazy: bool) -> tuple[NeuralSGD, Blocks]:
    """Return this library's solver, and the point that it moves."""
    network = start.shape.network(*start.sides, start.head)
    trainer = Trainer(network, squared, Adam(RATE, lazy=lazy))
    return NeuralSGD(start.known, trainer, CELLS, seed=0), blocks_of(network.parameters())


def pairs_of_ours(k: int, lazy: bool, task: Task) -> None:
    """Take an epoch."""
    solver, at = solver_of(started(task.data["R"], k), lazy)
    with Pool(task.n_threads) as pool:
        task.restart()
        task.keep(solver.epoch(at, pool))


def twin(sides: tuple[Tables, Tables], head: list[Linear], lazy: bool) -> tuple[Any, ...]:
    """Return the same tables and head in PyTorch."""
    import torch

    tables = [torch.nn.Embedding.from_pretrained(torch.tensor(side.tables[0].value), freeze=False,
                                                 sparse=lazy) for side in sides]
    layers: list[Any] = []
    for each in head:
        layer = torch.nn.Linear(*each.W.value.shape)
        layer.weight.data = torch.tensor(each.W.value.T.copy())
        layer.bias.data = torch.tensor(each.b.value)
        layers += [layer, torch.nn.ReLU()]
    return *tables, torch.nn.Sequential(*layers[:-1])


def steppers(modules: tuple[Any, ...], lazy: bool) -> list[Any]:
    """Return PyTorch's optimizers."""
    from torch.optim import Adam, SparseAdam

    *tables, rest = (list(each.parameters()) for each in modules)
    if lazy:
        return [SparseAdam(sum(tables, []), RATE), Adam(rest, RATE, fused=True)]
    return [Adam([*sum(tables, []), *rest], RATE, fused=True)]


def epochs_of_torch(start: Start, lazy: bool, one_epsilon: bool = False
                    ) -> Callable[[np.ndarray], float]:
    """Return what takes PyTorch through an epoch in a given order, and returns its mean loss.

    With r = √(1 − β2ᵗ), Adam divides by √v / r + ε, as this library does, but SparseAdam by
    (√v + ε) / r.  `one_epsilon` gives SparseAdam ε r for its ε, so that all divide alike.
    """
    import torch

    P, Q, mlp = modules = twin(start.sides, start.head, lazy)
    optimizers, known = steppers(modules, lazy), start.known
    users, items = torch.tensor(known.pairs.T.copy()).long()
    y, steps = torch.tensor(known.y), [0]

    def epoch(order: np.ndarray) -> float:
        total = torch.zeros((), dtype=y.dtype)
        for t in torch.tensor(order).split(CELLS):
            for each in optimizers:
                each.zero_grad(set_to_none=True)
            scores = mlp(torch.cat([P(users[t]), Q(items[t])], 1))[:, 0]
            loss = torch.nn.functional.mse_loss(scores, y[t])
            loss.backward()
            for each in optimizers:
                if one_epsilon and isinstance(each, torch.optim.SparseAdam):
                    steps[0] += 1
                    each.param_groups[0]["eps"] = 1e-8 * (1 - 0.999 ** steps[0]) ** 0.5
                each.step()
            total += loss.detach() * len(t)
        return float(total) / len(order)

    return epoch


def pairs_of_torch(k: int, lazy: bool, task: Task) -> None:
    """Take an epoch."""
    import torch

    torch.set_num_threads(task.n_threads)
    epoch = epochs_of_torch(started(task.data["R"], k), lazy)
    task.restart()
    task.keep(epoch(np.random.default_rng([0, 0]).permutation(task.data["R"].nnz)))


# ---------------------------------------------------------------------- rows: MultVAE


def ones(data: Data) -> sp.csr_array:
    """Return the rows of the steps, as ones."""
    x = data["R"][:STEPS * ROWS].copy()
    x.data[:] = 1
    return x


def rows_of_ours(hidden: int, latent: int, task: Task) -> None:
    """Take the steps."""
    x, random = ones(task.data), np.random.default_rng(0)
    model, ratings = MultVAE((hidden,), latent, beta=BETA, anneal=1, random_state=0), Ratings(x)
    network = model.recipe.network(model, x.shape, random)
    packed(network.parameters())
    (stage,) = model.recipe.solver(model, network, ratings, random).stages
    with Pool(task.n_threads) as pool:
        task.restart()
        losses = []
        for start in range(0, x.shape[0], ROWS):
            rows = np.arange(start, min(start + ROWS, x.shape[0]))
            batch = stage.make(rows, random, pool)
            losses.append(stage.trainer.step([((*batch[:2], BETA), ())], pool, 1 / len(rows)))
        task.keep(float(np.mean(losses)))


def rows_of_torch(hidden: int, latent: int, task: Task) -> None:
    """Take the steps."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(task.n_threads)
    torch.manual_seed(0)
    x = ones(task.data)
    n = x.shape[1]
    layers = [torch.nn.Linear(*size) for size in (
        (n, hidden), (hidden, 2 * latent), (latent, hidden), (hidden, n))]
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam([p for layer in layers for p in layer.parameters()], RATE, fused=True)
    task.restart()
    losses = []
    for start in range(0, x.shape[0], ROWS):
        rows = torch.from_numpy(x[start:start + ROWS].toarray().astype(np.float32))
        h = functional.dropout(functional.normalize(rows), 0.5)
        mean, log_variance = layers[1](torch.tanh(layers[0](h))).chunk(2, 1)
        z = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        scores = layers[3](torch.tanh(layers[2](z)))
        loss = -(torch.log_softmax(scores, 1) * rows).sum(1).mean()
        loss = loss - BETA / 2 * (1 + log_variance - mean ** 2 - log_variance.exp()).sum(1).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        losses.append(float(loss.detach()))
    task.keep(float(np.mean(losses)))


# ------------------------------------------------------------------------------ cases


def pair(name: str, title: str, says: str, data: Callable[[str], Data], runs: tuple[Any, Any],
         settings: tuple[str, str], goal: float | None, sizes: tuple[str, ...] = SIZES) -> Case:
    """Return a case of this library and PyTorch."""
    contestants = {peer: Contestant(run, peer, setting) for peer, run, setting in
                   zip(("mfcore", "torch"), runs, settings, strict=True)}
    return Case(name, title, says, data, partial(first_rows, n=40), contestants, as_said,
                "training loss, as it says", goal=goal, sizes=sizes)


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the cases of this file; a narrow trial has narrow layers."""
    k, (hidden, latent) = widths[0], (600, 200) if widest > 64 else (widest, widest)
    network = f"embeddings of {k}, ReLU {', '.join(map(str, HIDDEN))}, batches of {CELLS} cells"
    return [
        *(pair(f"neural_mf_{kind}{suffix}", f"an epoch of NeuralMF, {kind} Adam{where}",
               f"mean (r − s)² over ratings; {network}", data,
               (partial(pairs_of_ours, k, lazy), partial(pairs_of_torch, k, lazy)),
               (f"{kind} Adam", "SparseAdam and fused Adam" if lazy else "fused Adam"), 2.0, sizes)
          for suffix, where, data, sizes in (("", "", known_pairs, SIZES),
                                             ("_ml100k", ", ML-100K", ml100k, SIZES[:1]))
          for kind, lazy in (("lazy", True), ("dense", False))),
        pair("mult_vae", f"{STEPS} steps of MultVAE",
             f"multinomial log-likelihood, KL × {BETA}; layers {hidden}-{latent}-{hidden}, batches "
             f"of {ROWS} users", partial(all_of, "choices"),
             (partial(rows_of_ours, hidden, latent), partial(rows_of_torch, hidden, latent)),
             ("", "dense rows, fused Adam"), 2.5)]
