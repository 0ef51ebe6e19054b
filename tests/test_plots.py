"""Figures show what the model holds, and leave no trace behind."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from mfcore import MatrixFactorization, Ratings, plots
from mfcore.metrics.comparison import Comparison, Difference

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

HISTORY = [{"epoch": 1, "loss": 9.0, "seconds": 0.1, "rmse": 1.2, "mae": 0.9},
           {"epoch": 2, "loss": 4.0, "seconds": 0.1, "rmse": 1.1, "mae": 0.8}]


@pytest.fixture(autouse=True)
def _closed_figures():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def model() -> MatrixFactorization:
    """Thirty items i0, i1, ...; of them i7 has most ratings, i3 the second most."""
    random = np.random.default_rng(0)
    cells = {(u, i): 1 + (u * i) % 5 for u in range(20) for i in range(30)
             if random.random() < 0.3 or i == 7 or (i == 3 and u < 19)}
    users, items = zip(*cells, strict=True)
    ratings = Ratings.from_arrays([f"u{u}" for u in users], [f"i{i:02}" for i in items],
                                  [float(value) for value in cells.values()])
    return MatrixFactorization(4, n_epochs=3, random_state=0).fit(ratings)


def texts(ax) -> list[str]:
    return [each.get_text() for each in ax.texts]


def legend(ax) -> list[str]:
    return [each.get_text() for each in ax.get_legend().get_texts()]


# ------------------------------------------------------------------------------ history

def test_the_loss_is_drawn_by_epoch_and_metrics_on_an_axis_of_their_own():
    ax = plots.plot_history(HISTORY)
    assert ax.lines[0].get_xydata().tolist() == [[1, 9], [2, 4]]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")
    right = next(each for each in ax.figure.axes if each is not ax)
    assert [line.get_ydata().tolist() for line in right.lines] == [[1.2, 1.1], [0.9, 0.8]]
    assert right.get_ylabel() == "rmse, mae"
    assert legend(ax) == ["loss", "rmse", "mae"]


def test_lines_differ_without_colour():
    ax = plots.plot_history(HISTORY)
    lines = [line for each in ax.figure.axes for line in each.lines]
    assert len({line.get_linestyle() for line in lines}) == 3
    assert len({line.get_marker() for line in lines}) == 3


def test_without_metrics_there_is_one_axis(model):
    ax = plots.plot_history(model)
    assert ax.figure.axes == [ax]
    assert ax.lines[0].get_ydata().tolist() == [each["loss"] for each in model.history_]


def test_a_history_without_an_epoch_is_refused():
    with pytest.raises(ValueError, match="the history holds no epoch"):
        plots.plot_history([])


# --------------------------------------------------------------------------- comparison

def difference(first, second, at, reach, verdict, metric="ndcg@10"):
    return Difference(metric, first, second, at, at - reach, at + reach, 0.5, 0.5, verdict)


COMPARED = Comparison({}, [difference("a", "b", 0.2, 0.1, "better"),
                           difference("a", "c", 0.0, 0.3, "no difference shown"),
                           difference("a", "b", -1.0, 0.5, "better", "rmse")], 0.95, 9, 1, 1)


def test_differences_are_drawn_with_their_intervals_and_no_difference_is_hollow():
    ax = plots.plot_comparison(COMPARED)
    spans = [line for line in ax.lines if len(line.get_xdata()) == 2][:2]
    assert [line.get_xdata().tolist() if hasattr(line.get_xdata(), "tolist") else
            list(line.get_xdata()) for line in spans] == [pytest.approx([0.1, 0.3]), [-0.3, 0.3]]
    points = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [line.get_markerfacecolor() for line in points] == ["black", "white"]
    assert [each.get_text() for each in ax.get_yticklabels()] == ["a − b", "a − c"]
    assert ax.get_xlabel() == "difference of ndcg@10, 95 % interval"
    assert ax.get_ylim() == (1.5, -0.5)


def test_another_metric_of_a_comparison_is_drawn_or_refused():
    ax = plots.plot_comparison(COMPARED, "rmse")
    assert [each.get_text() for each in ax.get_yticklabels()] == ["a − b"]
    with pytest.raises(KeyError, match="metric must be one of ndcg@10, rmse, got 'mrr'"):
        plots.plot_comparison(COMPARED, "mrr")


# ---------------------------------------------------------------------------- embedding

def test_the_plane_holds_the_largest_singular_values():
    X = np.random.default_rng(1).normal(size=(20, 5)) * [5, 4, 1, 0.5, 0.1] + 3
    points, shares = plots.principal_plane(X.astype(np.float32))
    _, S, _ = np.linalg.svd(X - X.mean(0))
    np.testing.assert_allclose(np.linalg.norm(points, axis=0), S[:2], rtol=1e-5)
    np.testing.assert_allclose(shares, (S ** 2 / (S ** 2).sum())[:2], rtol=1e-5)
    np.testing.assert_allclose(points.T @ points, np.diag(S[:2] ** 2), atol=1e-3)
    assert (points.max(0) >= -points.min(0)).all()


@pytest.mark.parametrize("shape", [(6, 1), (1, 3), (2, 2)])
def test_a_plane_of_few_factors_or_items_is_filled_with_zeros(shape):
    points, shares = plots.principal_plane(np.arange(1.0, 1 + np.prod(shape)).reshape(shape))
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
    assert shares.shape == (2,)
    np.testing.assert_allclose(points[:, 1], 0, atol=1e-7)


def test_all_items_are_drawn_and_the_most_rated_named(model):
    ax = plots.plot_embedding(model)
    points, _ = plots.principal_plane(model.item_factors_)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), points)
    assert texts(ax)[0] == "i07"
    assert 2 <= len(texts(ax)) <= plots.LABELS
    assert "of variance" in ax.get_xlabel()


def test_names_of_many_items_do_not_cover_each_other():
    points = np.array([[0, 0], [0.01, 0.001], [1, 1], *np.random.default_rng(0).random((60, 2))])
    counts = np.arange(len(points), 0, -1)
    chosen = plots._named(points, counts)
    assert chosen[0] == 0
    assert 1 not in chosen
    assert 2 in chosen
    assert len(chosen) <= plots.LABELS
    assert plots._named(points[:12], counts[:12]) == list(range(12))


def test_chosen_items_are_drawn_and_named_by_title(model):
    chosen = ["i03", "i11", "i20"]
    ax = plots.plot_embedding(model, chosen, titles={"i03": "Three", "i20": "Twenty"})
    assert len(ax.collections[0].get_offsets()) == 3
    assert sorted(texts(ax)) == ["Three", "Twenty", "i11"]
    in_order = [f"title {row}" for row in range(model.n_items_)]
    assert sorted(texts(plots.plot_embedding(model, chosen, titles=in_order))) == sorted(
        f"title {row}" for row in model.ratings_.item_positions(np.array(chosen)))


def test_row_numbers_serve_where_the_model_has_no_ids():
    matrix = Ratings.from_arrays([0, 0, 1, 2], [0, 1, 1, 2], [5.0, 3.0, 4.0, 1.0]).by_user
    model = MatrixFactorization(2, n_epochs=1, random_state=0).fit(matrix)
    ax = plots.plot_embedding(model, [2, 0], titles={2: "two"})
    assert sorted(texts(ax)) == ["0", "two"]
    with pytest.raises(IndexError, match="items must be in"):
        plots.plot_embedding(model, [3])


def test_groups_have_a_marker_and_a_lightness_each(model):
    names = [f"{'abc'[place % 3]}" for place in range(model.n_items_)]
    ax = plots.plot_embedding(model, groups=names)
    assert sorted(legend(ax)) == ["a", "b", "c"]
    paths = {each.get_paths()[0].vertices.tobytes() for each in ax.collections}
    assert len(paths) == 3
    lightness = sorted(float(each.get_facecolor()[0, :3] @ [0.299, 0.587, 0.114])
                       for each in ax.collections)
    assert np.diff(lightness).min() > 0.15
    by_id = {f"i{item:02}": "odd" if item % 2 else "even" for item in range(29)}
    assert sorted(legend(plots.plot_embedding(model, groups=by_id))) == ["even", "none", "odd"]


def test_beyond_the_largest_groups_the_rest_are_other(model):
    names = [str(place) if place < 20 else "large" for place in range(model.n_items_)]
    ax = plots.plot_embedding(model, groups=names)
    assert legend(ax)[0] == "large"
    assert legend(ax)[-1] == "other"
    assert len(legend(ax)) == plots.LARGEST_GROUPS
    assert sum(len(each.get_offsets()) for each in ax.collections) == model.n_items_


def test_what_does_not_fit_the_model_is_refused(model):
    with pytest.raises(KeyError, match="nothing"):
        plots.plot_embedding(model, ["nothing"])
    with pytest.raises(ValueError, match="same length, got items 2, groups 3"):
        plots.plot_embedding(model, ["i01", "i02"], groups="abc")
    with pytest.raises(ValueError, match="at least one item"):
        plots.plot_embedding(model, [])
    with pytest.raises(ValueError, match="not fitted|fit"):
        plots.plot_embedding(MatrixFactorization())


# ------------------------------------------------------------------------- no trace left

def test_given_axes_are_used_and_no_figure_is_made(model):
    _, (left, right) = pyplot.subplots(1, 2)
    settings, figures = dict(matplotlib.rcParams), pyplot.get_fignums()
    assert plots.plot_history(HISTORY, ax=left) is left
    assert plots.plot_embedding(model, ax=right) is right
    assert pyplot.get_fignums() == figures
    assert dict(matplotlib.rcParams) == settings


def test_without_matplotlib_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for draw in (lambda: plots.plot_history(HISTORY),
                 lambda: plots.compare_embeddings({"one": None}),
                 lambda: plots.plot_embedding(SimpleNamespace(
                     check_fitted=lambda: None, n_items_=2, item_ids_=None,
                     item_factors_=np.eye(2), item_counts_=np.ones(2)))):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'mfcore\[plots\]'"):
            draw()


def test_models_are_drawn_side_by_side_without_a_window(model):
    figure = plots.compare_embeddings({"before": model, "after": model})
    assert [ax.get_title() for ax in figure.axes] == ["before", "after"]
    assert pyplot.get_fignums() == []
    alone = plots.plot_embedding(model)
    for ax in figure.axes:
        np.testing.assert_array_equal(ax.collections[0].get_offsets(),
                                      alone.collections[0].get_offsets())
