"""Figures of a fit: the loss by epoch, draws of a chain, items on a plane, and comparisons.

matplotlib is imported when a figure is drawn; ModuleNotFoundError says how to get it.  All
functions draw on the axes given (`ax`), or on a new figure, and return the axes; matplotlib's
settings stay as they are.  Lines differ in dashes and markers, groups in markers and lightness:
nothing depends on hue alone.

The plane is that of the two largest principal components.  With Y the item vectors minus
their mean, Y = U S Vᵀ, the coordinates Y V_2 = U_2 S_2 lose the least of Σ ‖y‖² among all
planes (Eckart, Young 1936).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mfcore import validation
from mfcore.atomic import replacing
from mfcore.data.titles import title_of, titles_of
from mfcore.metrics.comparison import NONE

LINES = ("-", "--", ":", "-.")
MARKERS = "o^sDvP*Xph<>"
LABELS = 12                   # the most items that are named
LARGEST_GROUPS = len(MARKERS)
# Names that are closer than this, as shares of the width and height, cover each other.
NEAR = np.array([0.16, 0.045])


def plot_history(model: Any, *, ax: Any = None) -> Any:
    """Draw the loss by epoch, and validation metrics on an axis of their own.

    Parameters
    ----------
    model : a fitted model, or its `history_`
        One dict per epoch with "epoch", "loss" and the metrics of the evaluation set;
        ValueError if there is none.

    Returns
    -------
    ax : matplotlib Axes
        Of the loss.
    """
    history = list(getattr(model, "history_", model))
    if not history:
        raise ValueError("the history holds no epoch; fit the model first")
    ax = _axes(ax)
    epochs = [record["epoch"] for record in history]
    losses = [record["loss"] for record in history]
    lines = ax.plot(epochs, losses, color="black", marker=MARKERS[0], markersize=3, label="loss")
    ax.set(xlabel="epoch", ylabel="loss")
    ax.locator_params(axis="x", integer=True)
    lines += _metric_lines(ax, epochs, history)
    ax.legend(handles=lines, frameon=False)
    return ax


def plot_trace(draws: Any, *, labels: Sequence[str] = (), ax: Any = None) -> Any:
    """Draw the samples of a chain, one after another.

    Parameters
    ----------
    draws : array-like, shape (n_samples,) or (n_samples, n_numbers)
        Such as `BayesianMF.score_draws`; ValueError for another shape.
    labels : sequence of str, shape (n_numbers,)
        Names for a legend, if any; ValueError for another length.
    """
    given = np.asarray(draws, np.float64)
    if given.ndim not in (1, 2) or not given.size:
        raise ValueError(f"draws must have shape (n_samples[, n_numbers]), got {given.shape}")
    columns = given.reshape(len(given), -1)
    names: Sequence[str | None] = labels or [None] * columns.shape[1]
    ax = _axes(ax)
    for number, (name, column) in enumerate(zip(names, columns.T, strict=True)):
        ax.plot(np.arange(1, len(column) + 1), column, label=name, linewidth=1,
                color=str(0.6 * number / len(names)), linestyle=LINES[number % len(LINES)])
    ax.set(xlabel="sample", ylabel="value")
    _ = ax.legend(frameon=False) if labels else None
    return ax


def plot_embedding(model: Any, items: Any = None, groups: Any = None, titles: Any = None, *,
                   ax: Any = None) -> Any:
    """Draw item vectors on the plane of their two largest principal components.

    Parameters
    ----------
    model : a fitted model
        With `item_factors_`.
    items : sequence of ids (row numbers where the model has none), or None
        Items to draw; None: all.  Up to 12 are all named; of more, the 12 with most ratings
        whose names do not cover each other.
    groups : sequence, shape (n_drawn,), or mapping from item to group, or None
        Each has a colour and marker; if there are more than twelve, the smallest are drawn
        together as "other".
    titles : mapping or Series from item id to title, or one title per item, or None
        What to write; None, and for items without a title: the ids.

    Raises
    ------
    KeyError, IndexError
        For items that the model does not know.
    ValueError
        For no items, another number of groups than items, and titles of other items.
    """
    model.check_fitted()
    rows = np.arange(model.n_items_) if items is None else \
        np.asarray(model.ratings_.known_items(items))
    if len(rows) == 0:
        raise ValueError("items must name at least one item")
    names = rows if model.item_ids_ is None else model.item_ids_[rows]
    labels = _labels(groups, names)
    points, shares = principal_plane(model.item_factors_[rows])
    ax, known = _axes(ax), titles_of(titles, model.ratings_)
    _draw_groups(ax, points, labels)
    for place in _named(points, model.item_counts_[rows]):
        name = names[place]
        _write(ax, str(name if known is None else title_of(known, name, name)), points, place)
    ax.set(xlabel=f"first component ({shares[0]:.0%} of variance)",
           ylabel=f"second component ({shares[1]:.0%} of variance)")
    ax.margins(0.1)
    return ax


def compare_embeddings(models: Mapping[str, Any], groups: Any = None, titles: Any = None) -> Any:
    """Draw the item vectors of several models side by side, each on its own plane.

    Parameters
    ----------
    models : mapping of title to fitted model
    groups, titles
        As in `plot_embedding`.

    Returns
    -------
    figure : matplotlib Figure
        Not shown in any window: `figure.savefig(path)` writes it.
    """
    with _needing_matplotlib():
        from matplotlib.figure import Figure
    figure = Figure(figsize=(6 * len(models), 5), layout="constrained")
    for ax, (title, model) in zip(figure.subplots(1, len(models), squeeze=False)[0],
                                  models.items(), strict=True):
        plot_embedding(model, groups=groups, titles=titles, ax=ax).set_title(title)
    return figure


def plot_comparison(comparison: Any, metric: str | None = None, *, ax: Any = None) -> Any:
    """Draw the differences of a comparison in one metric, with their intervals.

    Parameters
    ----------
    comparison : Comparison
        What `mfcore.compare` returned.
    metric : str or None
        Such as "ndcg@10"; KeyError for one that was not compared.  None: the first.

    Returns
    -------
    ax : matplotlib Axes
        A row per pair, the first at the top.  Filled points are better or worse, hollow ones show
        no difference; 0 is dashed.
    """
    metric = comparison.differences[0].metric if metric is None else metric
    found = comparison[metric]
    ax = _axes(ax)
    for row, each in enumerate(found):
        ax.plot([each.low, each.high], [row, row], color="0.45", linewidth=2)
        ax.plot([each.difference], [row], MARKERS[0], color="black",
                markerfacecolor="white" if each.verdict == NONE else "black")
    ax.axvline(0, color="0.6", linestyle=LINES[1], linewidth=1)
    ax.set(xlabel=f"difference of {metric}, {100 * comparison.confidence:g} % interval",
           ylim=(len(found) - 0.5, -0.5), yticks=range(len(found)))
    ax.set_yticklabels([f"{each.first} − {each.second}" for each in found])
    return ax


def principal_plane(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coordinates on the two largest principal components, and their shares of variance.

    Parameters
    ----------
    X : ndarray, shape (n, k)

    Returns
    -------
    points : ndarray of float64, shape (n, 2)
        The coordinate of largest magnitude in each column is positive.
    shares : ndarray, shape (2,)
        Zeros if there is no variance.
    """
    Y = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    variances, V = np.linalg.eigh(Y.T @ Y)
    points = np.zeros((len(X), 2))
    points[:, :V.shape[1]] = Y @ V[:, :-3:-1]
    signs = points[np.abs(points).argmax(axis=0), [0, 1]]
    largest = np.append(variances[::-1], 0.0)[:2].clip(0)
    total = max(float(variances.clip(0).sum()), np.finfo(float).tiny)
    return points * np.where(signs < 0, -1, 1), largest / total


def _metric_lines(ax: Any, epochs: list[int], history: list[dict[str, Any]]) -> list[Any]:
    """Draw the metrics on a second axis, to the right."""
    names = [name for name in history[0] if name not in ("epoch", "loss", "seconds")]
    if not names:
        return []
    right = ax.twinx()
    right.set_ylabel(", ".join(names))
    lines = []
    for place, name in enumerate(names, 1):
        values = [record.get(name, np.nan) for record in history]
        lines += right.plot(epochs, values, LINES[place % len(LINES)], color="0.45",
                            marker=MARKERS[place % len(MARKERS)], markersize=4, label=name)
    return lines


def _labels(groups: Any, names: np.ndarray) -> list[str] | None:
    """Return the group of each item as text."""
    if groups is None:
        return None
    if isinstance(groups, Mapping):
        return [str(groups.get(name, "none")) for name in names.tolist()]
    validation.same_length(items=names, groups=groups)
    return [str(group) for group in groups]


def _named(points: np.ndarray, counts: np.ndarray) -> list[int]:
    """Return the places to name: most rated first; if there are many, none too near another."""
    order: list[int] = np.argsort(-counts, kind="stable").tolist()
    if len(order) <= LABELS:
        return order
    near = NEAR * np.maximum(np.ptp(points, axis=0), np.finfo(float).tiny)
    chosen: list[int] = []
    for place in order:
        clear = (np.abs(points[chosen] - points[place]) > near).any(axis=1).all()
        if clear and len(chosen) < LABELS:
            chosen.append(place)
    return chosen


def _write(ax: Any, text: str, points: np.ndarray, place: int) -> None:
    """Write to the left or right of a point, where there is more room."""
    right = points[place, 0] > points[:, 0].min() + 0.8 * np.ptp(points[:, 0])
    ax.annotate(text, points[place], xytext=(-4 if right else 4, 3), fontsize=8,
                ha="right" if right else "left", textcoords="offset points")


def _draw_groups(ax: Any, points: np.ndarray, labels: list[str] | None) -> None:
    from matplotlib import colormaps

    if labels is None:
        ax.scatter(*points.T, s=14, color="0.35", alpha=0.7, linewidths=0)
        return
    drawn = np.array(labels, dtype=object)
    names, sizes = np.unique(drawn.astype(str), return_counts=True)
    kept = names[np.argsort(-sizes, kind="stable")]
    if len(kept) > LARGEST_GROUPS:
        kept = kept[:LARGEST_GROUPS - 1]
        drawn[~np.isin(drawn.astype(str), kept)] = "other"
        kept = np.append(kept, "other")
    # The lightness of these colours rises evenly, so that they differ in grey as well.
    colours = colormaps["viridis"](np.linspace(0.0, 0.85, len(kept)))
    for name, colour, marker in zip(kept, colours, MARKERS, strict=False):
        ax.scatter(*points[drawn == name].T, s=22, color=colour, marker=marker, alpha=0.8,
                   linewidths=0, label=name)
    ax.legend(frameon=False, fontsize=8)


def format_of_picture(name: str, path: str | Path) -> str:
    """Return the format in which a figure goes into a file, by its ending; "png" without one.

    Raises ValueError for an ending that matplotlib does not know, ModuleNotFoundError without it.
    """
    with _needing_matplotlib():
        from matplotlib.backend_bases import FigureCanvasBase
    known = FigureCanvasBase.get_supported_filetypes()
    ending = Path(path).suffix[1:].lower() or "png"
    if ending not in known:
        raise ValueError(f"{name} must name a picture that matplotlib writes "
                         f"({', '.join(sorted(known))}), got {os.fspath(path)!r}")
    return ending


def save_picture(figure: Any, path: str | Path) -> None:
    """Write a figure to a file, all of it or nothing."""
    form = format_of_picture("path", path)
    with replacing(path) as stream:
        figure.savefig(stream, dpi=120, format=form)


def _axes(ax: Any) -> Any:
    if ax is not None:
        return ax
    with _needing_matplotlib():
        from matplotlib import pyplot
    return pyplot.subplots(figsize=(7, 5), layout="constrained")[1]


@contextmanager
def _needing_matplotlib() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("plots need matplotlib: pip install 'mfcore[plots]'",
                                  name=error.name) from error
