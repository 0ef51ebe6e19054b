"""Data of the benchmarks, generated once and kept next to the library's downloads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.generated import chosen, generated
from mfcore.data.datasets import cache_dir

# Users, items, ratings; the large one has the shape of MovieLens 20M.
SIZES = {"small": (7_000, 1_400, 500_000), "medium": (40_000, 8_000, 3_000_000),
         "large": (138_493, 26_744, 20_000_263)}
PARTS = ("data", "indices", "indptr", "shape")
TEXT = b"".join(Path(__file__).with_name(name).read_bytes() for name in ("generated.py", "data.py"))


def kept(name: str) -> Path:
    """Return where something made by this text is kept, in a folder that is there."""
    folder = cache_dir() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    stem, suffix = name.rsplit(".", 1)
    return folder / f"{stem}-{hashlib.sha256(TEXT).hexdigest()[:8]}.{suffix}"


def stored(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return arrays and sparse matrices by name, made at the first call on this machine."""
    path = kept(f"{name}.npz")
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, **flat(make()))
        partial.replace(path)
    with np.load(path) as file:
        return whole(dict(file))


def flat(things: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return arrays alone: of a sparse matrix, its parts."""
    arrays = {name: each for name, each in things.items() if not sp.issparse(each)}
    for name, each in things.items():
        if sp.issparse(each):
            arrays |= {f"{name}.{part}": np.asarray(getattr(each, part)) for part in PARTS}
    return arrays


def whole(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return what `flat` took apart."""
    names = {name.removesuffix(".data") for name in arrays if name.endswith(".data")}
    matrices = {name: sp.csr_array(tuple(arrays[f"{name}.{part}"] for part in PARTS[:3]),
                                   shape=tuple(arrays[f"{name}.shape"])) for name in names}
    return matrices | {name: each for name, each in arrays.items()
                       if name.rpartition(".")[0] not in names}


MAKERS = {"ratings": generated, "choices": chosen}


def all_of(kind: str, size: str) -> dict[str, Any]:
    """Return R, every rating or choice."""
    return stored(f"{kind}-{size}", lambda: {"R": MAKERS[kind](*SIZES[size])})


def halves(kind: str, size: str) -> dict[str, Any]:
    """Return R, nine tenths of the ratings or choices, and `test`, the rest."""
    def cut() -> dict[str, Any]:
        R = all_of(kind, size)["R"].tocoo()
        held = np.random.default_rng(1).random(R.nnz) < 0.1
        return {name: sp.csr_array((R.data[part], (R.row[part], R.col[part])), shape=R.shape)
                for name, part in (("R", ~held), ("test", held))}

    return stored(f"{kind}-halves-{size}", cut)


def first_rows(data: dict[str, Any], n: int = 200) -> dict[str, Any]:
    """Return the same of the first users."""
    return data | {name: each[:n] for name, each in data.items() if sp.issparse(each)}
