"""What it takes to begin: the import, and the first fit of a new process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.case import Case, Contestant, Task, as_said

X = "import numpy as np, scipy.sparse as sp; " \
    "X = sp.csr_matrix(np.random.default_rng(0).integers(0, 2, (60, 40)).astype(np.float32)); "
MODULES = "; import sys; print(); print(len(sys.modules))"
IMPORTS = {"mfcore": "from mfcore import ImplicitMF, MatrixFactorization, Ratings",
           "implicit": "from implicit.cpu.als import AlternatingLeastSquares",
           "irspack": "from irspack import IALSRecommender", "torch": "import torch"}
FITS = {"mfcore": f"{IMPORTS['mfcore']}; ImplicitMF(16, n_epochs=1).fit(X)",
        "implicit": f"{IMPORTS['implicit']}; "
                    "AlternatingLeastSquares(16, iterations=1).fit(X, show_progress=False)",
        "irspack": f"{IMPORTS['irspack']}; IALSRecommender(X, n_components=16, train_epochs=1)"
                   ".learn()"}


def begun(code: str, task: Task, **environ: str) -> None:
    """Run Python code in a new process; keep the number of modules that it loads."""
    task.restart()
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", code + MODULES], check=True,
                           env=os.environ | environ, stdout=subprocess.PIPE, text=True)
    task.keep(float(found.stdout.split()[-1]))


def never_compiled(code: str, task: Task) -> None:
    """Begin where the cache of compiled kernels is empty."""
    with tempfile.TemporaryDirectory() as folder:
        begun(code, task, NUMBA_CACHE_DIR=folder)


def cases(widths: Sequence[int], widest: int) -> list[Case]:
    """Return the cases of this file."""
    imports = {name: Contestant(lambda task, code=code: begun(code, task), name)
               for name, code in IMPORTS.items()}
    fits = {name: Contestant(lambda task, code=X + code: begun(code, task), name)
            for name, code in FITS.items()}
    fits["mfcore, never compiled"] = Contestant(
        lambda task: never_compiled(X + FITS["mfcore"], task), "mfcore", "no cache of kernels")
    return [Case(name, title, says, lambda size: {}, dict, contestants, as_said,
                 "modules loaded", sizes=("small",))
            for name, title, says, contestants in (
                ("import", "the import of a model", "a new process", imports),
                ("first_fit", "the first small fit of a process", "import included; kernels come "
                 "from the cache of an earlier process", fits))]
