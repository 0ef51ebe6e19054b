"""How often `compare` calls two seeds of one model different, and a planted difference.

    python -m benchmarks.seeds [TRIALS]

Each trial draws ratings of its own, holds out a fifth, and fits three models to the
rest: one, the same with another seed, and one that is worse by what is said below.  `compare`
measures the fitted models on the held-out ratings, with its defaults.  The first pair should be
called different in one of a hundred trials, the other as often as the difference can be seen.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.page import SETTINGS
from benchmarks.twins import bought, rated
from mfcore import ImplicitMF, MatrixFactorization, Ratings, compare
from mfcore.data.split import per_user_split, random_split

HERE = Path(__file__).parent / "results"
RESULT, FIGURE = HERE / "seeds.json", HERE / "seeds.svg"
TRIALS = 100
SHARED: dict[str, Any] = {"n_factors": 8, "n_threads": 1}
# What is measured, the data of a trial, the model, and what makes it worse.
TASKS: dict[str, tuple[str, Callable[[int], Ratings], Callable[..., Any], dict[str, Any]]] = {
    "MatrixFactorization by SGD, one factor in place of eight": (
        "rmse", lambda seed: rated((400, 200), 0.2, (1, 5), 1, 1.5, 0.7, seed=seed),
        lambda **given: MatrixFactorization(solver="sgd", **{**SHARED, **given}),
        {"n_factors": 1}),
    "ImplicitMF, one factor in place of eight": (
        "ndcg@10", lambda seed: bought((600, 200), 15, 8, seed=seed),
        lambda **given: ImplicitMF(**{**SHARED, **given}), {"n_factors": 1}),
}


def trial(task: str, number: int) -> list[dict[str, float]]:
    """Return difference, interval, p and verdict of two seeds, and of the planted difference."""
    metric, make, model, worse = TASKS[task]
    ratings = make(number)
    train, test = random_split(ratings, 0.2, number, keep=1) if metric == "rmse" else \
        per_user_split(ratings, 0.2, random_state=number)
    one = model(random_state=2 * number).fit(train)
    others = (model(random_state=2 * number + 1), model(random_state=2 * number + 1, **worse))
    return [_told(compare({"one": one, "other": other.fit(train)}, test, metrics=metric))
            for other in others]


def _told(comparison: Any) -> dict[str, float]:
    found = comparison.differences[0]
    numbers = {name: round(float(getattr(found, name)), 6)
               for name in ("difference", "low", "high")}
    return {**numbers, "called": found.verdict != "no difference shown"}


def draw(axes: Any, found: dict[str, Any]) -> None:
    """Draw the intervals of all trials, sorted, two seeds below the planted difference."""
    for place, (name, label) in enumerate((("seeds", "two seeds"), ("planted", "planted"))):
        rows = sorted(found[name], key=lambda row: row["difference"])
        x = np.linspace(0, 1, len(rows)) + 1.2 * place
        middle = np.array([row["difference"] for row in rows])
        ends = np.array([[row["low"], row["high"]] for row in rows])
        axes.vlines(x, *ends.T, color=f"C{place}", lw=0.8, label=label)
        axes.plot(x, middle, ".", color=f"C{place}", ms=2)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks([])
    axes.set_ylabel(f"difference of {found['metric']}, with its interval")
    axes.set_title(found["task"], fontsize="small")
    axes.legend()


def main() -> None:
    """Run all trials, write the result file, and draw it."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS
    result: dict[str, Any] = {"command": "python -m benchmarks.seeds", "trials": n, "tasks": []}
    for task, (metric, *_) in TASKS.items():
        rows = [trial(task, number) for number in range(n)]
        found = {"task": task, "metric": metric, "seeds": [row[0] for row in rows],
                 "planted": [row[1] for row in rows]}
        found |= {f"{name} called": sum(row["called"] for row in found[name])
                  for name in ("seeds", "planted")}
        print(task, {name: found[f"{name} called"] for name in ("seeds", "planted")}, flush=True)
        result["tasks"].append(found)
    RESULT.write_text(json.dumps(result) + "\n", "utf-8")
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(8, 3), layout="constrained")
        for axes, found in zip(figure.subplots(1, 2), result["tasks"], strict=True):
            draw(axes, found)
        figure.savefig(FIGURE, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
