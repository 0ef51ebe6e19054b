"""Single figures that stand in prose, made from the result files.

A page has them between `<!-- figure: NAME -->` and `<!-- end -->`, within a line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.tables import read


def workers(folder: Path) -> str:
    """Return the wall time of two workers over that of two threads, by turn."""
    rows = [row for row in read("cluster", folder)["rows"]
            if row["number"] == 2 and row["how"] in ("threads", "shared")]
    ratios = [float(np.median(shared["wall"]) / np.median(threads["wall"]))
              for threads, shared in zip(rows[::2], rows[1::2], strict=True)]
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def torch(case: str, clock: str) -> Callable[[Path], str]:
    """Return what makes PyTorch's seconds to ours, the median of rounds."""
    def figure(folder: Path) -> str:
        found = read(f"neural_mf_{case}_small", folder)["peer's seconds to ours"]["torch"]
        return f"{found[clock][1]:.1f}"

    return figure


def network_folds(folder: Path) -> str:
    """Return in how many folds a network adds to the model that it starts from."""
    folds = read("ml100k_neural", folder)["two-stage"]["folds"]
    return f"{sum(fold['rmse'] < fold['factorization'] for fold in folds)} of {len(folds)} folds"


def independence(folder: Path) -> str:
    """Return how the independence of codes goes with β."""
    rows = read("disentanglement", folder)["rows"]
    values = [row["mean"]["independence"][0] for row in rows]
    top = int(np.argmax(values))
    return (f"rises from {values[0]:.3f} to {values[top]:.3f} at β = {rows[top]['beta']:g} and "
            f"falls to {values[-1]:.3f}")


def gap(of: str) -> Callable[[Path], str]:
    """Return what makes the gap at the least and at the largest β, and by chance."""
    def figure(folder: Path) -> str:
        rows = read("disentanglement", folder)["rows"]
        first, last = (rows[place]["mean"][f"gap, {of}"] for place in (0, -1))
        return f"{first[0]:.3f} to {last[0]:.3f} (by chance {last[1]:.3f})"

    return figure


FIGURES: dict[str, Callable[[Path], str]] = {
    "workers": workers, "network_folds": network_folds, "independence": independence,
    **{f"gap_{of}": gap(of) for of in ("genre", "gender", "age")},
    **{f"torch_{case}_{clock}": torch(case, clock)
       for case in ("lazy", "dense") for clock in ("cpu", "wall")}}
