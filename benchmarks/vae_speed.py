"""A training step of MultVAE beside PyTorch's, in two processes that take turns.

    python -m benchmarks.vae_speed

Batches of 500 users of generated ratings of the shape of MovieLens 20M, 138,493 × 26,744; layers
600-200-600; Adam; two threads each.  PyTorch gets dense rows and Adam in its fused form, as is
usual.  Both see the same batches in the same order; the losses stand beside the seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.generated import generated

RESULT = Path(__file__).parent / "results" / "vae_speed.json"
HIDDEN, LATENT, BATCH, BETA = 600, 200, 500, 0.2
TURNS, BATCHES = 6, 4
DATA = Path(os.environ.get("TMPDIR", "/tmp")) / "mfcore_vae_speed.npz"


def rows() -> sp.csr_array:
    """Return the rows of enough users, as ones."""
    n = (TURNS + 1) * BATCHES * BATCH
    if not DATA.exists():
        sp.save_npz(DATA, generated(138_493, 26_744, 20_000_263)[:n], compressed=False)
    x = sp.csr_array(sp.load_npz(DATA))
    x.data[:] = 1
    return x


def ours(x: sp.csr_array) -> Callable[[int], float]:
    """Return a step on users start..start + BATCH, which returns its loss."""
    from mfcore import MultVAE, Ratings
    from mfcore.nn.packing import packed
    from mfcore.parallel import Pool

    model = MultVAE((HIDDEN,), LATENT, beta=BETA, anneal=1, random_state=0)
    random, ratings = np.random.default_rng(0), Ratings(x)
    network = model._network(x.shape, random)
    packed(network.parameters())
    (stage,) = model._solver(network, ratings, random).stages
    pool = Pool(2).__enter__()

    def step(start: int) -> float:
        batch = stage.make(np.arange(start, start + BATCH), random, pool)
        return stage.trainer.step([((*batch[:2], BETA), ())], pool, 1 / BATCH)

    return step


def theirs(x: sp.csr_array) -> Callable[[int], float]:
    """Return the same step of PyTorch."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(2)
    torch.manual_seed(0)
    sizes = [(x.shape[1], HIDDEN), (HIDDEN, 2 * LATENT), (LATENT, HIDDEN), (HIDDEN, x.shape[1])]
    layers = [torch.nn.Linear(*size) for size in sizes]
    for layer in layers:
        torch.nn.init.xavier_uniform_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    parameters = [p for layer in layers for p in layer.parameters()]
    adam = torch.optim.Adam(parameters, 1e-3, fused=True)

    def step(start: int) -> float:
        rows = torch.from_numpy(x[start:start + BATCH].toarray().astype(np.float32))
        h = functional.dropout(functional.normalize(rows), 0.5)
        mean, log_variance = layers[1](torch.tanh(layers[0](h))).chunk(2, 1)
        z = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        scores = layers[3](torch.tanh(layers[2](z)))
        loss = -(torch.log_softmax(scores, 1) * rows).sum(1).mean()
        loss = loss - BETA / 2 * (1 + log_variance - mean ** 2 - log_variance.exp()).sum(1).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        return float(loss.detach())

    return step


SIDES = {"mfcore": ours, "torch": theirs}


def serve(name: str) -> None:
    """Take BATCHES steps for each line of standard input; print wall, CPU and losses."""
    x = rows()
    step = SIDES[name](x)
    for turn, _ in enumerate(sys.stdin):
        wall, cpu = time.perf_counter(), time.process_time()
        losses = [step((turn * BATCHES + batch) * BATCH) for batch in range(BATCHES)]
        print(json.dumps({"wall": (time.perf_counter() - wall) / BATCHES,
                          "cpu": (time.process_time() - cpu) / BATCHES, "losses": losses}),
              flush=True)


def turns() -> Iterator[dict[str, Any]]:
    """Yield what both sides report, turn by turn; the first is for compiling."""
    rows()
    sides = {name: subprocess.Popen([sys.executable, "-m", "benchmarks.vae_speed", name],
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
             for name in SIDES}
    for _ in range(TURNS + 1):
        found = {}
        for name, side in sides.items():
            side.stdin.write("go\n")
            side.stdin.flush()
            found[name] = json.loads(side.stdout.readline())
        yield found
    for side in sides.values():
        side.stdin.close()
        side.wait()


def main() -> None:
    """Measure and write the result file."""
    found = []
    for turn in turns():
        print(turn, os.getloadavg(), flush=True)
        found.append(turn)
    ratio = {kind: round(statistics.median(turn["torch"][kind] / turn["mfcore"][kind]
                                           for turn in found[1:]), 3) for kind in ("wall", "cpu")}
    print(ratio)
    RESULT.write_text(json.dumps({
        "data": "generated, 138493 x 26744, 20M ratings; batches of 500 users",
        "command": "python -m benchmarks.vae_speed", "median of PyTorch's seconds to ours": ratio,
        "turns": found}, indent=1) + "\n")


if __name__ == "__main__":
    serve(sys.argv[1]) if len(sys.argv) > 1 else main()
