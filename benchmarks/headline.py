"""What the front page shows of the results: a few rows of speed and accuracy, and a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import RESULTS
from benchmarks.tables import SIZES, Table, read, results

# Case, and the peer that it is shown with.
SPEED = {"als_cg_implicit_64": "implicit", "als_exact_irspack_64": "irspack",
         "sgd_64": "libmf", "bpr_64": "implicit", "top_ten_64": "implicit",
         "mult_vae": "torch", "neural_mf_dense": "torch"}
UNKNOWN = {"none": "no weight on unknown cells", "chosen": "weight chosen on validation"}


def headline_speed(folder: Path = RESULTS) -> Table:
    """Return how many times our seconds a peer takes, for a few cases at every size."""
    rows: dict[str, list[str]] = {}
    for case, found in results(folder):
        ratio = found["peer's seconds to ours"].get(SPEED.get(case.name, ""))
        if ratio and ratio["cpu"]:
            row = rows.setdefault(case.name, [case.title, SPEED[case.name], *["–"] * len(SIZES)])
            row[2 + SIZES[::-1].index(found["size"])] = \
                "{:.1f} ({:.1f})".format(*(ratio[clock][1] for clock in ("cpu", "wall")))
    return Table(["same task, same figure to reach", "peer", *SIZES[::-1]], list(rows.values()))


def headline_accuracy(folder: Path = RESULTS) -> Table:
    """Return what defaults reach on a few data sets, next to a baseline."""
    return Table(["data", "metric", "baseline", "default of the family", "best of the library"],
                 list(_accuracies(folder)))


def _accuracies(folder: Path) -> Iterator[list[str]]:
    stars = _means(read("ml100k_rmse", folder)) | _means(read("ml100k_bayesian", folder))
    if {"biases only", "learned biases (the default)", "Gibbs"} <= set(stars):
        best = min(stars, key=lambda name: stars[name])
        yield ["ML-100K, u1 to u5", "RMSE", f"biases {stars['biases only']:.4f}",
               f"`MatrixFactorization` {stars['learned biases (the default)']:.4f}",
               f"`BayesianMF`, {best.removeprefix('Gibbs, ')} {stars[best]:.4f}"]
    for data, part in read("strong_generalisation", folder).get("data", {}).items():
        means = {name: row["ndcg@100"]["mean"] for name, row in part["models"].items()}
        best = max(means, key=lambda name: means[name])
        if {"Popularity", "ImplicitMF"} <= set(means):
            yield [f"{data}, new users", "NDCG@100", f"popularity {means['Popularity']:.3f}",
                   f"`ImplicitMF` {means['ImplicitMF']:.3f}", f"{best} {means[best]:.3f}"]
    for data, metric, base, model in (
            ("plays", "ndcg@10", "Popularity", "ImplicitMF"),
            ("−10 to 10", "rmse", "BiasOnly", "MatrixFactorization")):
        found = read("defaults", folder).get("data", {}).get(metric, {}).get(data, {}).get("test")
        if found and {base, model} <= set(found):
            figures = {name: each["figure"] for name, each in found.items() if "0.1.0" not in name}
            best = (min if metric == "rmse" else max)(figures, key=lambda name: figures[name])
            yield [data, "RMSE in σ" if metric == "rmse" else "NDCG@10",
                   f"{base} {figures[base]:.4f}",
                   f"`{model}` {figures[model]:.4f}", f"{best} {figures[best]:.4f}"]


def _means(found: dict[str, Any]) -> dict[str, float]:
    return {row["name"]: row["mean"] for row in found.get("rows", ())}


def folding_picture(folder: Path = RESULTS) -> str:
    """Return an SVG: the share of recommendations from strangers' catalogues, by weight."""
    import io

    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = read("folding", folder)["rows"]
    data = list(dict.fromkeys(row["data"] for row in rows))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mfcore", "font.size": 10,
                         "font.family": "sans-serif", "axes.spines.top": False,
                         "axes.spines.right": False, "legend.frameon": False}):
        figure = Figure(figsize=(8.5, 2.6), layout="constrained")
        axes = figure.subplots()
        for number, (weight, says) in enumerate(UNKNOWN.items()):
            share = [next(row["cross_group_rate@10"] for row in rows
                          if (row["data"], row["weight"]) == (name, weight)) for name in data]
            places = np.arange(len(data)) + 0.36 * (0.5 - number)
            axes.barh(places, share, 0.34, color=("#c44e52", "#4c72b0")[number], label=says)
            for place, value in zip(places, share, strict=True):
                axes.text(value + 0.008, place, f"{value:.0%}" if value >= 0.01 else f"{value:.1%}",
                          va="center")
        axes.set(yticks=np.arange(len(data)), yticklabels=[name.replace(" + ", " +\n")
                                                           for name in data], xlim=(0, 1),
                 xlabel="share of the ten best that are from a catalogue with which the "
                        "user has nothing in common")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.legend(loc="upper right")
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return out.getvalue()
