"""`tune` next to a random search of forty whole fits over the same space.

    python -m benchmarks.tuning [--keep-random] [DATA ...]

Data are those of `benchmarks/twins.py`.  A fifth of the ratings is for testing.  Both searches
choose by the same tenth of the rest, and then fit to all of the rest.  The random search draws
sizes of vectors from the powers of two in the space.  `tune` gets a budget of eight fits of the
model as given, and, where a fit of the random search takes longer than that on average, of eight of
those, too.  Costs are CPU-seconds on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defaults import SHARED, cut
from benchmarks.twins import CHOSEN, RATED
from mfcore import EASE, ImplicitMF, MatrixFactorization, Ratings, evaluate, tune
from mfcore.metrics.table import sign
from mfcore.models.stopping import held_out
from mfcore.tuning.spaces import SPACES, Doubling
from mfcore.validation import DivergenceError

RESULT = Path(__file__).parent / "results" / "tuning.json"
BUDGET, FITS = 8.0, 40
LONGER = 1.5                # times the fit of the model as given
TASKS = {
    "rmse": (RATED, ("MovieTweetings 10K", "skewed stars", "noisy stars"),
             (MatrixFactorization(**SHARED),)),
    "ndcg@10": (CHOSEN, ("Online Retail", "likes", "plays"),
                (ImplicitMF(**SHARED), EASE(n_threads=1)))}


def settings(name: str, n: int) -> list[dict[str, Any]]:
    """Draw settings from the space of a model, sizes of vectors among powers of two."""
    random = np.random.default_rng(1)
    return [{key: int(each.low * 2 ** random.integers(np.log2(each.high / each.low) + 1))
             if isinstance(each, Doubling) else each.ppf(random.random())
             for key, each in SPACES[name].items()} for _ in range(n)]


def made(model: Any, setting: dict[str, Any]) -> Any:
    """Return an unfitted model with a setting."""
    return type(model)(**model.get_params(deep=False) | setting)


def figure(model: Any, test: Ratings, metric: str) -> float:
    """Return the metric of a fitted model."""
    return float(evaluate(model, test, metrics=metric, n_threads=1)[metric])


def at_random(model: Any, rest: Ratings, metric: str) -> Any:
    """Return the best of forty settings, fitted to all that is known."""
    known, held = held_out(rest, 0.1, 0)
    found: list[tuple[float, dict[str, Any]]] = []
    for setting in settings(type(model).__name__, FITS):
        try:
            value = figure(made(model, setting).fit(known), held, metric)
        except DivergenceError:
            continue
        found.append((sign(metric) * value, setting))
    return made(model, max(found, key=lambda pair: pair[0])[1]).fit(rest)


def timed(make: Any, test: Ratings, metric: str) -> dict[str, Any]:
    """Return what a fitted model is worth on the test part, its setting, and what it took."""
    start = time.process_time()
    model = make()
    seconds = time.process_time() - start
    names = SPACES[type(model).__name__]
    return {"figure": round(figure(model, test, metric), 4), "cpu_seconds": round(seconds, 2),
            "setting": {name: model.get_params()[name] for name in names}}


def main() -> None:
    """Measure, and add to the result file."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="*")
    parser.add_argument("--keep-random", action="store_true",
                        help="leave the random search as it is on file; it takes most of the time")
    given = parser.parse_args()
    asked, known = given.data, read() if given.keep_random else {}
    for metric, (twins, names, models) in TASKS.items():
        for name in names:
            for model in models if not asked or name in asked else ():
                label = f"{type(model).__name__}, {name}"
                keep(label, compared(model, *cut(twins[name].make(), metric, 0), metric,
                                     known.get(label, {}).get("random")))


def compared(model: Any, rest: Ratings, test: Ratings, metric: str,
             random: dict[str, Any] | None) -> dict[str, Any]:
    """Return the figures of a model as given, tuned, and by random search, if not known."""
    tune(model, rest, budget=BUDGET)                               # (which compiles kernels)
    found = {"metric": metric,
             "given": timed(lambda: made(model, {}).fit(rest), test, metric),
             "tuned": timed(lambda: tune(model, rest, budget=BUDGET).model, test, metric),
             "random": random or timed(lambda: at_random(model, rest, metric), test, metric)}
    fit = found["random"]["cpu_seconds"] / FITS / found["given"]["cpu_seconds"]
    if fit > LONGER:
        budget = round(BUDGET * fit, 1)
        found["longer"] = {"budget": budget, **timed(
            lambda: tune(model, rest, budget=budget).model, test, metric)}
    return found


def read() -> dict[str, Any]:
    """Return the rows on file."""
    rows: dict[str, Any] = json.loads(RESULT.read_text("utf-8"))["rows"] if RESULT.exists() else {}
    return rows


def keep(label: str, found: dict[str, Any]) -> None:
    """Print a row, and write it into the result file."""
    print(label, found, flush=True)
    result = {"command": "python -m benchmarks.tuning", "budget": BUDGET, "fits": FITS,
              "rows": {**read(), label: found}}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
