"""Peak memory of an epoch on ratings of the shape that MovieLens 20M has in the literature.

    python -m benchmarks.autoencoder_memory

136,677 users × 20,720 items, 10 million generated ratings; one epoch and ten recommendations,
each model in a process of its own.  EASE is told to stay within 4 gigabytes; a refusal is a
result.  What the result file holds is not measured again.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import scipy.sparse as sp

from benchmarks.generated import generated
from mfcore import EASE, MultDAE, MultVAE, RatingAutoencoder, RecVAE

RESULT = Path(__file__).parent / "results" / "autoencoder_memory.json"
DATA = Path(os.environ.get("TMPDIR", "/tmp")) / "mfcore_memory.npz"
MODELS: dict[str, Any] = {
    "MultVAE": lambda: MultVAE(n_epochs=1, random_state=0),
    "MultDAE": lambda: MultDAE(n_epochs=1, random_state=0),
    "RecVAE": lambda: RecVAE(n_epochs=1, encoder_passes=1, random_state=0),
    "RatingAutoencoder": lambda: RatingAutoencoder(n_epochs=1, random_state=0),
    "EASE": lambda: EASE(memory=4.0)}


def one(name: str) -> None:
    """Fit one model and print its figures."""
    x, start = sp.csr_array(sp.load_npz(DATA)), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    try:
        model = MODELS[name]().fit(x)
    except ValueError as refusal:
        print(json.dumps({"refused": str(refusal)}))
        return
    model.recommend(range(10))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(json.dumps({"gigabytes": round(peak, 2), "of_which_before": round(before, 2),
                      "cpu_seconds": round(time.process_time() - start),
                      "loss": model.history_[0]["loss"] if model.history_ else None}))


def main() -> None:
    """Measure all models and write the result file."""
    if not DATA.exists():
        sp.save_npz(DATA, generated(136_677, 20_720, 10_000_000), compressed=False)
    rows = json.loads(RESULT.read_text())["models"] if RESULT.exists() else {}
    for name in [each for each in MODELS if each not in rows]:
        found = subprocess.run([sys.executable, "-m", "benchmarks.autoencoder_memory", name],
                               stdout=subprocess.PIPE, text=True, check=True)
        rows[name] = json.loads(found.stdout)
        print(name, rows[name], flush=True)
        RESULT.write_text(json.dumps({
            "data": "generated, 136677 x 20720, 10M ratings", "models": rows,
            "command": "python -m benchmarks.autoencoder_memory"}, indent=1) + "\n")


if __name__ == "__main__":
    one(sys.argv[1]) if len(sys.argv) == 2 else main()
