"""A training epoch of a network of pairs here and in PyTorch, in one interleaved run.

    python neural_speed.py {ml-100k,synthetic} {lazy,dense} [--epochs N] [--threads N]

The same network (embeddings of 64, ReLU layers of 128, 64, 32, one output), start, batch
order (1024 cells) and Adam on both sides, on as many threads as there are processors:
"lazy" beside SparseAdam for the embeddings (and fused Adam for the rest), "dense" beside fused
Adam.  Epochs alternate; prints the loss curves, wall and processor seconds, and the ratios, and
keeps them in results/neural_speed.json with the load of the machine.  A machine that others use
is unfair to threads that wait in a loop, as PyTorch's do: one thread each is then the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch

from mfcore import fetch
from mfcore.models.fusion import Architecture
from mfcore.nn.losses import squared
from mfcore.nn.network import Trainer, blocks_of
from mfcore.nn.optimizers import Adam
from mfcore.parallel import Pool
from mfcore.solvers.neural import Cells, NeuralSGD

RESULT = Path(__file__).parent / "results" / "neural_speed.json"
BATCH, RATE, K, HIDDEN = 1024, 1e-3, 64, (128, 64, 32)


def ratings(name):
    """Return known cells as a canonical CSR: ML-100K, or 5M cells with skewed popularity."""
    import scipy.sparse as sp

    if name == "ml-100k":
        return fetch("ml-100k").ratings.by_user
    random, (n, m), nnz = np.random.default_rng(0), (50_000, 20_000), 5_000_000
    users, items = (size * random.random(nnz) ** power for size, power in ((n, 1.5), (m, 2.0)))
    P, Q = random.normal(size=(n, 4)), random.normal(size=(m, 4))
    cells = np.unique(users.astype(np.int64) * m + items.astype(np.int64))
    u, i = np.divmod(cells, m)
    values = 3.5 + 0.5 * np.einsum("tf,tf->t", P[u], Q[i]) + 0.5 * random.normal(size=len(u))
    return sp.csr_array((values, i, np.searchsorted(u, np.arange(n + 1))), shape=(n, m))


class Twin(torch.nn.Module):
    """The same network in PyTorch, at the same start."""

    def __init__(self, users, items, head, lazy):
        super().__init__()
        self.P, self.Q = (torch.nn.Embedding.from_pretrained(
            torch.tensor(side.tables[0].value), freeze=False, sparse=lazy)
            for side in (users, items))
        layers = []
        for each in head:
            layer = torch.nn.Linear(*each.W.value.shape)
            layer.weight.data = torch.tensor(each.W.value.T.copy())
            layer.bias.data = torch.tensor(each.b.value)
            layers += [layer, torch.nn.ReLU()]
        self.mlp = torch.nn.Sequential(*layers[:-1])

    def forward(self, users, items):
        return self.mlp(torch.cat([self.P(users), self.Q(items)], 1))


def optimizers(twin, lazy):
    tables, rest = [twin.P.weight, twin.Q.weight], list(twin.mlp.parameters())
    if lazy:
        return [torch.optim.SparseAdam(tables, RATE), torch.optim.Adam(rest, RATE, fused=True)]
    return [torch.optim.Adam(tables + rest, RATE, fused=True)]


def torch_epoch(twin, steppers, order, pairs, y):
    total = torch.zeros(())
    for start in range(0, len(order), BATCH):
        t = order[start:start + BATCH]
        for each in steppers:
            each.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(twin(pairs[0][t], pairs[1][t]), y[t])
        loss.backward()
        for each in steppers:
            each.step()
        total += loss.detach() * len(t)
    return float(total) / len(order)


def timed(function, *arguments):
    """Return the result, wall seconds and processor seconds."""
    def cpu():
        return sum(resource.getrusage(resource.RUSAGE_SELF)[:2])

    time.sleep(0.5)                       # let the other side's threads come to rest
    wall, used = time.perf_counter(), cpu()
    result = function(*arguments)
    return result, time.perf_counter() - wall, cpu() - used


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data", choices=("ml-100k", "synthetic"))
    parser.add_argument("kind", choices=("lazy", "dense"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args()
    lazy, n_threads = given.kind == "lazy", given.threads
    torch.set_num_threads(n_threads)

    cells, random = ratings(given.data), np.random.default_rng(1)
    shape = Architecture("concat", K, HIDDEN, "relu", 0.0, False, np.dtype(np.float32))
    users, items = (shape.drawn(name, n, 0.3, random)
                    for name, n in zip(("user", "item"), cells.shape, strict=True))
    head = shape.head(random)
    known = Cells(cells, (cells.data - cells.data.mean()).astype(np.float32))
    twin = Twin(users, items, head, lazy)
    steppers = optimizers(twin, lazy)
    pairs, y = torch.tensor(known.pairs.T.copy()).long(), torch.tensor(known.y[:, None])
    network = shape.network(users, items, head)
    solver = NeuralSGD(known, Trainer(network, squared, Adam(RATE, lazy=lazy)), BATCH, seed=0)
    at = blocks_of(network.parameters())

    def warm_up():
        """Compile, on copies."""
        sides = [shape.drawn(name, n, 0.3, random)
                 for name, n in zip(("user", "item"), cells.shape, strict=True)]
        few = Cells(cells[:20], known.y[:cells.indptr[20]])
        other = shape.network(*sides, shape.head(random))
        with Pool(n_threads) as pool:
            NeuralSGD(few, Trainer(other, squared, Adam(RATE, lazy=lazy)), BATCH,
                      seed=0).epoch(blocks_of(other.parameters()), pool)
        fresh = Twin(*sides, shape.head(random), lazy)
        torch_epoch(fresh, optimizers(fresh, lazy), torch.arange(2 * BATCH), pairs, y)

    def ours():
        with Pool(n_threads) as pool:
            return solver.epoch(at, pool)

    warm_up()
    rows = []
    for epoch in range(given.epochs):
        order = torch.tensor(np.random.default_rng([0, epoch]).permutation(len(known.y)))
        loss, wall, used = timed(ours)
        theirs, their_wall, their_used = timed(torch_epoch, twin, steppers, order, pairs, y)
        print(f"epoch {epoch + 1}: mfcore {loss:.6f} {wall:.3f} s ({used:.3f} cpu)   "
              f"PyTorch {theirs:.6f} {their_wall:.3f} s ({their_used:.3f} cpu)   "
              f"ratio {their_wall / wall:.2f} ({their_used / used:.2f} cpu)   "
              f"loss differs by {abs(loss / theirs - 1):.1e}", flush=True)
        rows.append({"mfcore": {"loss": loss, "wall": wall, "cpu": used},
                     "PyTorch": {"loss": theirs, "wall": their_wall, "cpu": their_used}})
    keep(f"{given.data} {given.kind}, threads: {n_threads}", rows)


def keep(name, rows):
    """Write epochs, medians of the ratios and the machine into the result file."""
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    ratio = {what: round(float(np.median([row["PyTorch"][what] / row["mfcore"][what]
                                          for row in rows])), 2) for what in ("wall", "cpu")}
    differs = max(abs(row["mfcore"]["loss"] / row["PyTorch"]["loss"] - 1) for row in rows)
    result[name] = {"ratio": ratio, "loss_differs": float(f"{differs:.2g}"),
                    "load": round(os.getloadavg()[0], 1), "processors": os.cpu_count(),
                    "numpy": np.__version__, "torch": torch.__version__, "epochs": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
