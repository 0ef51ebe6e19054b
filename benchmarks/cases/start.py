"""What it takes to begin: the import, the first fit and the first answer of a new process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.case import Case, Contestant, Data, Task, as_said
from benchmarks.data import kept
from mfcore import ImplicitMF

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

ANSWERS = {"mfcore": "import mfcore; mfcore.load({!r}).recommend(['user-7'])",
           "mfcore.serving": "from mfcore import serving; "
                             "serving.load({!r}, mmap=True).recommend(['user-7'])"}


def saved(size: str) -> Data:
    """Return the path of a model of 20,000 items, 64 factors and text ids."""
    from benchmarks.latency import ratings_of  # (which reads the harness)

    path = kept("first-answer.mfcore")
    if not path.exists():
        ImplicitMF(64, n_epochs=2, reg=0.1, random_state=0).fit(ratings_of(20_000, True)).save(path)
    return {"path": str(path)}


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
    answers = {name: Contestant(lambda task, code=code: begun(code.format(task.data["path"]), task),
                                "mfcore") for name, code in ANSWERS.items()}
    return [Case(name, title, says, data, dict, contestants, as_said, "modules loaded",
                 sizes=("small",))
            for name, title, says, data, contestants in (
                ("import", "the import of a model", "a new process", lambda size: {}, imports),
                ("first_fit", "the first small fit of a process", "import included; kernels come "
                 "from the cache of an earlier process", lambda size: {}, fits),
                ("first_answer", "the first answer of a process", "import and loading of a model "
                 "of 20,000 items, one user by text id; kernels come from the cache", saved,
                 answers))]
