"""`mfcore info`: what a model file holds, or what results and their speed may depend on.

With --check, a self-test of the machine.

The self-test takes a few seconds.  It fits small planted ratings and compares with what is
known without any of our kernels:

    rows         every user's vector solves its normal equations, put together by NumPy here
    score        `predict` returns P_u·Q_i + μ + b_u + b̃_i
    threads      one thread and two give the same bits
    file         a model that is saved and loaded has the same bits
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

import mfcore
from mfcore.cli.output import Answer, shown

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "tqdm", "pyarrow",
            "narwhals", "matplotlib")
TOLERANCE = 1e-8
REG, UNKNOWN = 2.0, 0.3            # λ of a row, and w0, in the self-test


def info(arguments: Namespace) -> Answer:
    """Describe a model file, or versions, threads, BLAS and folders; with --check, test them."""
    if arguments.model is not None:
        if arguments.check:
            arguments.usage_error("--check tests the machine, not a model file")
        return held_by(arguments.model)
    from mfcore.data.datasets import cache_dir
    from mfcore.parallel import thread_count

    data = {"mfcore": mfcore.__version__, "python": platform.python_version(),
            "platform": platform.platform(), "packages": _versions(), "cpus": os.cpu_count(),
            "threads": thread_count(None), "blas": _blas(), "jit": _jit(),
            "folders": {"MFCORE_DATA": os.environ.get("MFCORE_DATA"), "cache": str(cache_dir())}}
    if arguments.check:
        data["check"], data["compiled"] = self_test(), _ahead()
    return Answer(data, "\n".join(_lines(data)))


# ----------------------------------------------------------------------------- a model file


def held_by(file: str) -> Answer:
    """Describe what a model file holds."""
    model: Any = mfcore.load(file)
    path, last = Path(file), model.history_[-1] if model.history_ else {}
    data = {"file": file, "bytes": path.stat().st_size, "model": type(model).__name__,
            "parameters": model.get_params(), "users": model.n_users_, "items": model.n_items_,
            "ratings": model.ratings_.nnz if model.has_seen_ else None,
            "lowest": model.rating_range_[0], "highest": model.rating_range_[1],
            "mean": model.mean_rating_, "user_ids": _kind(model.user_ids_),
            "item_ids": _kind(model.item_ids_), **_features(model), "epochs": model.n_epochs_,
            "loss": None if "segment" in last else last.get("loss")}
    return Answer(data, "\n".join(f"{name:15s}{shown(value)}" for name, value in
                                  _rows(data, model) if value is not None))


def _kind(ids: np.ndarray | None) -> str:
    """Describe ids by their kind, and the first of them."""
    if ids is None:
        return "row numbers"
    kinds = sorted({"integers" if isinstance(each, int) else
                    "text" if isinstance(each, str) else type(each).__name__
                    for each in ids.tolist()})
    return f"{' and '.join(kinds) or 'none'}, such as {', '.join(map(repr, ids[:3].tolist()))}"


def _features(model: Any) -> dict[str, int | None]:
    """Return the numbers of features of users and items, None where there are none."""
    if "features" not in model.side_type.parts:
        return {"user_features": None, "item_features": None}
    names = {"user_features": model.user_feature_names_, "item_features": model.item_feature_names_}
    return {side: None if found is None else len(found) for side, found in names.items()}


def _rows(data: dict[str, Any], model: Any) -> list[tuple[str, Any]]:
    """Return the lines of a description, with numbers as people read them."""
    loss = "" if data["loss"] is None else f", loss {data['loss']:.6g}"
    size = f"{data['users']:,} × {data['items']:,}"
    seen = "not in the file (saved with seen=False)" if data["ratings"] is None else \
        f"{data['ratings']:,}, from {data['lowest']:g} to {data['highest']:g}, mean " \
        f"{data['mean']:.4g}"
    return [("file", f"{data['file']}, {data['bytes'] / 1e6:.1f} MB"), ("model", repr(model)),
            ("users × items", size), ("ratings", seen), ("user ids", data["user_ids"]),
            ("item ids", data["item_ids"]), ("user features", data["user_features"]),
            ("item features", data["item_features"]), ("epochs", f"{data['epochs']}{loss}")]


# ------------------------------------------------------------------------------- the machine


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _blas() -> list[dict[str, Any]]:
    """Describe the BLAS libraries that NumPy and SciPy brought along, with their kernels."""
    import scipy.linalg  # noqa: F401  (loads its BLAS)
    from threadpoolctl import threadpool_info

    return [{"library": each["internal_api"], "version": each["version"],
             "kernel": each.get("architecture"), "threads": each["num_threads"],
             "file": Path(each["filepath"]).name}
            for each in threadpool_info() if each["user_api"] == "blas"]


def _jit() -> dict[str, Any]:
    """Describe the compiler, and the folders of compiled kernels with how many can be used."""
    from numba import config

    from mfcore import compiled

    ready = compiled.ready()
    return {"enabled": not config.DISABLE_JIT, "cache": next(iter(ready)),
            "kernels": len(set().union(*ready.values())),
            "folders": {folder: len(kernels) for folder, kernels in ready.items()}}


def _ahead() -> dict[str, Any] | None:
    """Say whose kernels were all compiled ahead, and how many are missing by now."""
    from mfcore import precompile

    found = precompile.noted()
    return None if found is None else {"models": found[0], "missing": len(found[1])}


def _lines(data: dict[str, Any]) -> list[str]:
    versions = [f"{name} {version}" for name, version in data["packages"].items() if version]
    rows = [("mfcore", data["mfcore"]), ("python", f"{data['python']}, {data['platform']}"),
            ("packages", ", ".join(versions)),
            ("threads", f"{data['threads']} of {data['cpus']} CPUs")]
    rows += [("blas", f"{each['library']} {each['version']}, kernel {each['kernel']} "
                      f"({each['file']})") for each in data["blas"]]
    rows += [("jit", "on" if data["jit"]["enabled"] else "off (NUMBA_DISABLE_JIT)"),
             *(("jit cache", f"{folder}, {n} compiled kernels ready")
               for folder, n in data["jit"]["folders"].items()),
             ("data", data["folders"]["MFCORE_DATA"] or "MFCORE_DATA is not set"),
             ("data cache", data["folders"]["cache"])]
    if "check" in data:
        check = data["check"]
        rows.append(("check", f"passed in {check['seconds']} s: {', '.join(check['passed'])}"))
        ahead = data["compiled"]
        rows.append(("compiled", "as needed; `mfcore compile` does it ahead" if ahead is None else
                     f"{ahead['missing']} kernels of {', '.join(ahead['models'])} are missing: run "
                     f"`mfcore compile` again" if ahead["missing"] else
                     f"ahead, all kernels of {', '.join(ahead['models'])}"))
    return [f"{name:12s}{value}" for name, value in rows]


# ------------------------------------------------------------------------------ self-test


def self_test() -> dict[str, Any]:
    """Return how many seconds the test took, and the parts that it passed.

    Raises ArithmeticError, which names the parts that fail.
    """
    from mfcore.data.synthetic import planted

    start, ratings = time.perf_counter(), planted(80, 50, random_state=0).ratings
    one, two = (mfcore.MatrixFactorization(
        6, n_epochs=3, bias=None, reg=REG, reg_scaling="none", rating_scale=1.0,
        unknown_weight=UNKNOWN, dtype="float64", solver="cholesky", random_state=0,
        n_threads=n).fit(ratings)
        for n in (1, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mfcore"
        one.save(path)
        again = mfcore.load(path)
    found = {"rows": _worst_row(one, ratings) < TOLERANCE, "score": _scores_agree(ratings),
             "threads": np.array_equal(one.item_factors_, two.item_factors_),
             "file": np.array_equal(one.user_factors_, again.user_factors_)}
    if not all(found.values()):
        wrong = ", ".join(name for name, right in found.items() if not right)
        raise ArithmeticError(f"the self-test failed: {wrong}; results of this machine are not "
                              f"to be trusted. `mfcore info` names the jit cache, to be emptied, "
                              f"and the versions")
    return {"seconds": round(time.perf_counter() - start, 1), "passed": list(found)}


def _worst_row(model: Any, ratings: Any) -> float:
    """Return the largest |A P_u − c| of all users, over the largest |c|."""
    R, Q = ratings.by_user.toarray().astype(float), model.item_factors_
    known = np.zeros(R.shape, bool)
    known[ratings.users_of_cells, ratings.by_user.indices] = True
    worst = []
    for r, here, p in zip(R, known, model.user_factors_, strict=True):
        A = (Q.T * np.where(here, 1.0, UNKNOWN)) @ Q + REG * np.eye(Q.shape[1])
        c = Q[here].T @ r[here]
        worst.append(abs(A @ p - c).max() / max(abs(c).max(), 1.0))
    return float(max(worst))


def _scores_agree(ratings: Any) -> bool:
    model: Any = mfcore.MatrixFactorization(6, n_epochs=2, dtype="float64", random_state=0)
    model.fit(ratings)
    users, items = ratings.users_of_cells, ratings.by_user.indices
    s = np.einsum("tf,tf->t", model.user_factors_[users], model.item_factors_[items]) \
        + model.global_mean_ + model.user_bias_[users] + model.item_bias_[items]
    return bool(np.allclose(model.predict(users, items), s, atol=TOLERANCE))
