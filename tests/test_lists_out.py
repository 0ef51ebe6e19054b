"""Lists come out as frames and into files, and are those of `recommend`."""

from __future__ import annotations

import csv
import gzip
import inspect
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import samples

import mfcore
from mfcore import (
    BayesianMF,
    ImplicitMF,
    ItemKNN,
    MatrixFactorization,
    MultVAE,
    Ratings,
    Segmented,
)
from mfcore.data import frames_out
from mfcore.metrics.fitted import NewRows
from mfcore.metrics.folding import spurious_pairs
from mfcore.models.answering import lists_out
from mfcore.models.registry import MODELS

USERS, ITEMS = [f"u{row}" for row in range(40)], [f"i{column}" for column in range(12)]
CELLS = samples.matrix(40, 12, seed=5)
TITLES = {"i3": "Alien, the", "i7": 'of "quotes"', "i9": None}


def fitted(made=MatrixFactorization, names=True, **params):
    model = samples.small(made, **params)
    if made is Segmented:
        model.set_params(by=np.arange(40) % 2)
    return model.fit(Ratings(CELLS, user_ids=USERS, item_ids=ITEMS) if names else CELLS)


def rows_of(users, lists, titles=None):
    """The rows of a table, one per recommendation, written down from the lists."""
    rows = []
    for user, ids, scores in zip(users, *(each.tolist() for each in lists), strict=True):
        found = [(user, item, score, rank) for rank, (item, score) in
                 enumerate(zip(ids, scores, strict=True), 1) if score > -np.inf]
        rows += found if titles is None else [(*row, titles.get(row[1])) for row in found]
    return rows


# --------------------------------------------------------------------------------- frames

def plain(frame, library):
    """The columns and the rows of a frame."""
    if library == "pandas":
        return list(frame.columns), [
            tuple(None if value is None or value != value else value for value in row)
            for row in frame.itertuples(index=False)]
    if library == "polars":
        return frame.columns, frame.rows()
    return frame.column_names, list(zip(*(each.to_pylist() for each in frame.columns),
                                        strict=True))


@pytest.mark.parametrize("library", frames_out.LIBRARIES)
@pytest.mark.parametrize("titles", [None, TITLES])
def test_a_frame_has_a_row_per_recommendation(library, titles):
    pytest.importorskip(library)
    model = fitted()
    lists = model.recommend(["u3", "u1"], k=20)                 # more than there are
    frame = model.recommend(["u3", "u1"], k=20, as_frame=library, titles=titles)
    assert type(frame).__module__.split(".")[0] == library
    names, rows = plain(frame, library)
    assert names == ["user", "item", "score", "rank"] + ["title"] * (titles is not None)
    assert rows == rows_of(["u3", "u1"], lists, titles)


@pytest.mark.parametrize("titles", [None, {"i4": "Four"}])
def test_users_of_an_item_come_as_a_frame(titles):
    model = fitted()
    wanted = rows_of(["i4", "i2"], model.recommend_users(["i4", "i2"], 3))
    frame = model.recommend_users(["i4", "i2"], 3, as_frame="pandas", titles=titles)
    names, rows = plain(frame, "pandas")
    assert names[:4] == ["item", "user", "score", "rank"]
    assert [row[:4] for row in rows] == wanted
    if titles:
        assert [row[4] for row in rows] == ["Four"] * 3 + [None] * 3


@pytest.mark.parametrize("made", [BayesianMF, MultVAE, Segmented])
def test_models_with_a_recommend_of_their_own_give_frames_too(made):
    model = fitted(made)
    rows = plain(model.recommend(["u1"], 2, as_frame="pandas"), "pandas")[1]
    assert rows == rows_of(["u1"], model.recommend(["u1"], 2))


def test_new_and_unknown_users_keep_the_names_that_they_were_given():
    model = fitted(ImplicitMF)
    new = Ratings(samples.matrix(2, 12, seed=8), user_ids=["ann", "bob"], item_ids=ITEMS)
    assert {"ann", "bob"} == set(model.recommend(ratings=new, as_frame=True)["user"])
    assert set(model.recommend(ratings=["i3"], as_frame=True)["user"]) == {0}
    asked = model.recommend(["u1", "who"], 1, unknown="ignore", as_frame=True)
    assert asked["user"].tolist() == ["u1", "who"]
    numbers = fitted(names=False).recommend([1, 99], 1, unknown="ignore", as_frame=True)
    assert numbers["user"].tolist() == [1, 99]
    assert numbers["user"].dtype == np.int64


def test_titles_may_be_a_series_or_one_per_item():
    pandas = pytest.importorskip("pandas")
    model = fitted()
    wanted = model.recommend(["u3"], as_frame=True, titles=TITLES)["title"].tolist()
    for titles in (pandas.Series(TITLES), [TITLES.get(item) for item in ITEMS],
                   np.array([TITLES.get(item) for item in ITEMS], object)):
        assert model.recommend(["u3"], as_frame=True, titles=titles)["title"].tolist() == wanted


def test_titles_are_found_by_ids_of_another_kind():
    model = samples.small(MatrixFactorization).fit(Ratings(CELLS, item_ids=range(12)))
    wanted = model.recommend([3], as_frame=True, titles={3: "Alien", 7: "Clue"})
    assert wanted["title"].notna().any()
    for titles in ({"3": "Alien", "7": "Clue", "x": "Other"}, {np.int8(3): "Alien", 7: "Clue"}):
        assert wanted.equals(model.recommend([3], as_frame=True, titles=titles))


@pytest.mark.parametrize("ask", [
    lambda model, titles: model.recommend(as_frame=True, titles=titles),
    lambda model, titles: model.similar_items("i3", as_frame=True, titles=titles),
    lambda model, titles: model.recommend_to("nowhere.csv", titles=titles),
    lambda model, titles: spurious_pairs(model, titles=titles)],
    ids=["recommend", "similar", "file", "pairs"])
def test_titles_of_other_items_are_refused_with_counts(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="none of its 12 items is among their 2: the fit has 'i0', "
                                         "the titles have 3"):
        ask(fitted(), {3: "Alien", 7: "Clue"})


@pytest.mark.parametrize("made", [MatrixFactorization, MultVAE, ItemKNN, Segmented])
def test_neighbours_come_as_a_frame(made):
    model = fitted(made)
    names, rows = plain(model.similar_items(["i4", "i2"], 3, as_frame="pandas", titles=TITLES),
                        "pandas")
    assert names == ["item", "similar", "score", "rank", "title"]
    assert rows == rows_of(["i4", "i2"], model.similar_items(["i4", "i2"], 3), TITLES)
    if made is not ItemKNN:
        names, rows = plain(model.similar_users(["u4"], 3, as_frame="pandas"), "pandas")
        assert names == ["user", "similar", "score", "rank"]
        assert rows == rows_of(["u4"], model.similar_users(["u4"], 3))


@pytest.mark.parametrize("missing", [float("nan"), "NA", "NaT"])
def test_a_missing_title_is_none(missing, tmp_path):
    pandas = pytest.importorskip("pandas")
    given = {"NA": pandas.NA, "NaT": pandas.NaT}.get(missing, missing)
    some, model = {**TITLES, "i0": given, "i1": given}, fitted()
    for titles in (some, pandas.Series(some)):
        for library in frames_out.LIBRARIES:
            pytest.importorskip(library)
            found = plain(model.recommend(k=4, as_frame=library, titles=titles), library)
            without = {name: title for name, title in TITLES.items() if name not in ("i0", "i1")}
            assert found == plain(model.recommend(k=4, as_frame=library, titles=without), library)
        model.recommend_to(tmp_path / "lists.npy", k=4, titles=titles)
        lists = np.load(tmp_path / "lists.npy")
        assert set(lists["title"][np.isin(lists["item"], ["i0", "i1"])]) == {""}


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_a_frame_without_rows_has_the_types_of_one_with_rows(library):
    pytest.importorskip(library)
    model = fitted()
    some = model.recommend(["u3"], as_frame=library, titles=TITLES)
    none = model.recommend([], as_frame=library, titles=TITLES)
    assert len(none) == 0
    assert none.schema == some.schema


def test_a_column_of_titles_is_text_where_no_item_has_one():
    polars = pytest.importorskip("polars")
    frame = fitted().recommend(["u3"], as_frame="polars", titles={})
    assert frame.schema["title"] == polars.String


@pytest.mark.parametrize("missing", [*frames_out.LIBRARIES, "narwhals"])
def test_a_library_that_is_not_installed_is_named_with_its_cure(missing, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    asked = "polars" if missing == "narwhals" else missing
    with pytest.raises(ImportError, match=rf"as_frame='{asked}' needs {missing}: pip install"):
        fitted().recommend(["u1"], as_frame=asked)


def test_the_first_library_that_is_there_is_taken(monkeypatch):
    pytest.importorskip("polars")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert type(fitted().recommend(["u1"], as_frame=True)).__module__.startswith("polars")
    for library in frames_out.LIBRARIES:
        monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"needs a library of frames: .*mfcore\[frames\]"):
        fitted().recommend(["u1"], as_frame=True)


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"as_frame": "panda"}, ValueError, "did you mean 'pandas'"),
    ({"as_frame": 3}, ValueError, "as_frame must be one of"),
    ({"titles": {}}, ValueError, "ask with as_frame=True"),
    ({"as_frame": True, "titles": ["x"]}, ValueError, "titles must be 12, one per item"),
    ({"as_frame": True, "titles": 3}, TypeError, "titles must be a mapping"),
    ({"as_frame": True, "titles": SimpleNamespace(columns=["id", "title"])}, TypeError,
     "got a frame: dict")])
def test_what_is_no_frame_is_refused(options, error, message):
    for ask in (fitted().recommend, fitted().recommend_users):
        with pytest.raises(error, match=message):
            ask(["u1"] if ask.__name__ == "recommend" else ["i1"], **options)


# ---------------------------------------------------------------------------------- files

def read(path):
    """The names of the columns and the rows of a file."""
    if path.name.endswith(".npy"):
        table = np.load(path)
        return list(table.dtype.names), [tuple(each.item() for each in row) for row in table]
    if path.name.endswith(".parquet"):
        from pyarrow import parquet

        return plain(parquet.read_table(path), "pyarrow")
    with (gzip.open if path.name.endswith(".gz") else open)(path, "rt", encoding="utf-8",
                                                            newline="") as stream:
        names, *rows = csv.reader(stream)
    return names, [(*row[:2], float(np.float32(row[2])), int(row[3]), *row[4:]) for row in rows]


SUFFIXES = (".csv", ".csv.gz", ".npy", ".parquet")


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return tmp_path / f"lists{request.param}"


def small_chunks(monkeypatch, rows=7):
    monkeypatch.setattr(lists_out, "MOST_ROWS", rows)


@pytest.mark.parametrize("titles", [None, TITLES])
def test_a_file_holds_the_lists_of_recommend(path, titles, monkeypatch):
    small_chunks(monkeypatch)
    model = fitted()
    n_rows = model.recommend_to(path, k=30, titles=titles)
    wanted = rows_of(USERS, model.recommend(k=12), titles)
    names, rows = read(path)
    assert names == ["user", "item", "score", "rank"] + ["title"] * (titles is not None)
    if not path.name.endswith("parquet"):                       # which alone has None
        wanted = [tuple("" if value is None else value for value in row) for row in wanted]
    assert rows == wanted
    assert n_rows == len(rows) < 40 * 12
    assert os.listdir(path.parent) == [path.name]


def test_text_of_any_kind_comes_back(path):
    ids = ["a,b", '"q"', "two\nlines", "a\rb", "\r", " led", "007", "", "NA", "=1", "\\", *ITEMS]
    titles = {each: f"{each}\r\n" for each in ids}
    cells = samples.matrix(len(ids), len(ids))
    model = samples.small(MatrixFactorization).fit(Ratings(cells, user_ids=ids, item_ids=ids))
    model.recommend_to(path, k=3, titles=titles)
    assert read(path)[1] == rows_of(ids, model.recommend(k=3), titles)


def test_bytes_do_not_depend_on_the_chunks(path, monkeypatch):
    if path.name.endswith((".gz", ".parquet")):
        pytest.skip("chunks are members, or groups of rows")
    model = fitted()
    model.recommend_to(path)
    whole = path.read_bytes()
    small_chunks(monkeypatch)
    model.recommend_to(path)
    assert path.read_bytes() == whole


def test_numbers_stay_numbers(path):
    model = fitted(names=False)
    model.recommend_to(path, users=[3, 1], k=2)
    rows = read(path)[1]
    if not path.name.endswith((".csv", ".gz")):
        assert rows == rows_of([3, 1], model.recommend([3, 1], 2))
    assert [int(row[0]) for row in rows] == [3, 3, 1, 1]


def test_options_and_new_users_are_those_of_recommend(path, monkeypatch):
    small_chunks(monkeypatch)
    model = fitted(ImplicitMF)
    options = {"similarity": "cosine", "items": ["i3", "i5", "i9"], "exclude_items": ["i5"],
               "exclude_seen": False}
    model.recommend_to(path, **options)
    assert read(path)[1] == rows_of(USERS, model.recommend(**options))
    new = samples.matrix(20, 12, seed=8)
    model.recommend_to(path, 3, ratings=new)
    rows = [(int(row[0]), *row[1:]) for row in read(path)[1]]
    assert rows == rows_of(range(20), model.recommend(ratings=new, k=3))
    each = (samples.matrix(40, 12, seed=9) > 2).tocsr()
    model.recommend_to(path, items=each)
    assert read(path)[1] == rows_of(USERS, model.recommend(items=each))


def test_no_users_make_a_file_without_rows(path):
    assert fitted().recommend_to(path, users=[]) == 0
    assert read(path) == (["user", "item", "score", "rank"], [])


class KilledError(Exception):
    """What stops a call in these tests."""


def test_an_interrupted_call_goes_on_where_it_was(path, monkeypatch):
    small_chunks(monkeypatch)
    model, other = fitted(), path.with_name(f"other{''.join(path.suffixes)}")
    model.recommend_to(other)
    asked = kill_after(model, 3, monkeypatch)
    with pytest.raises(KilledError):
        model.recommend_to(path)
    assert not path.exists()
    assert asked == [0, 7, 7, 7]                        # (the first only looks whether it can)
    asked = kill_after(model, 99, monkeypatch)
    small_chunks(monkeypatch, 9)                        # another memory, as it were
    model.recommend_to(path)
    assert asked == [0, 9, 9, 1]
    assert read(path) == read(other)


def kill_after(model, n_chunks, monkeypatch):
    """Let `recommend` fail after some chunks; return how many users each call asks for."""
    asked = []

    def recommend(*args, users=None, **options):
        if len(asked) > n_chunks:
            raise KilledError
        new = options.get("ratings", options.get("user_features"))
        asked.append(len(users) if users is not None else new.shape[0])
        return type(model).recommend(model, users, **options)

    monkeypatch.setattr(model, "recommend", recommend, raising=False)
    return asked


def test_columns_that_differ_in_the_middle_are_other_work():
    pd = pytest.importorskip("pandas")
    many = np.arange(1000)
    one, other = (lists_out._digest([pd.Series(np.where(many == middle, -1, many))])
                  for middle in (500, 501))
    assert one != other


def test_new_users_of_other_days_are_other_work():
    cells = samples.counts()
    days = np.arange(cells.nnz).astype("M8[D]")
    one, other = (lists_out._digest([NewRows(Ratings(cells, times=times), None)])
                  for times in (days, days + 1))
    assert one != other


@pytest.mark.parametrize("change", [{"k": 3}, {"items": ["i3"]}, {"titles": TITLES}, "model"])
def test_other_work_starts_again(change, tmp_path, monkeypatch):
    small_chunks(monkeypatch)
    model, path = fitted(), tmp_path / "lists.csv"
    kill_after(model, 3, monkeypatch)
    with pytest.raises(KilledError):
        model.recommend_to(path)
    model = fitted(random_state=5) if change == "model" else fitted()
    asked = kill_after(model, 99, monkeypatch)
    model.recommend_to(path, **({} if change == "model" else change))
    assert sum(asked) == 40


# What each keyword may be in a second call, which is then other work; and what is no part of it.
OTHERS = {
    "k": 3, "titles": TITLES, "items": ["i3"], "exclude_items": ["i3"], "similarity": "cosine",
    "exclude_seen": False, "unknown": "ignore", "users": USERS[::-1], "ratings": CELLS,
    "user_features": [["b"], ["a"]] * 20, "times": "2020-07-01", "optimism": 1.0, "at_least": 4,
    "sample": 3}
MADE = {"optimism": lambda: fitted(BayesianMF), "sample": lambda: fitted(MultVAE),
        "at_least": lambda: fitted(BayesianMF, likelihood="ordinal")}
SAME = {"path": "it names the folder in which the journal is",
        "memory": "a chunk is of another size, a row the same",
        "verbose": "it shows a bar and changes nothing", "as_frame": "a file takes none"}


def timed():
    """A model with groups and periods, so that it takes all keywords."""
    times = np.datetime64("2020-01-01") + np.arange(CELLS.nnz) % 400
    model = samples.small(MatrixFactorization, user_periods=2)
    return model.fit(Ratings(CELLS, user_ids=USERS, item_ids=ITEMS, times=times),
                     user_features=[["a"], ["b"]] * 20)


def test_every_keyword_of_lists_is_part_of_the_identity_or_an_exception():
    taken = set()
    for name in MODELS:
        taken |= {each for ask in ("recommend", "recommend_to") for each in
                  inspect.signature(getattr(getattr(mfcore, name), ask)).parameters}
    assert taken - {"self", "options"} == set(OTHERS) | set(SAME)


@pytest.mark.parametrize("name", OTHERS)
def test_a_call_with_another_keyword_starts_again_and_is_right(name, tmp_path, monkeypatch):
    small_chunks(monkeypatch)
    path, made = tmp_path / "lists.csv", MADE.get(name, timed)
    model = made()
    kill_after(model, 3, monkeypatch)
    first = {"users": None, "user_features": [["a"], ["b"]] * 20} if name == "user_features" else {}
    with pytest.raises(KilledError):
        model.recommend_to(path, **first)
    again = made()
    asked = kill_after(again, 99, monkeypatch)
    again.recommend_to(path, **{**first, name: OTHERS[name]})
    assert sum(asked) == 40                             # all users: nothing was taken over
    made().recommend_to(tmp_path / "wanted.csv", **{**first, name: OTHERS[name]})
    assert path.read_bytes() == (tmp_path / "wanted.csv").read_bytes()


def test_draws_do_not_depend_on_the_chunks_and_need_a_seed(tmp_path, monkeypatch):
    model, paths = fitted(MultVAE), [tmp_path / f"{size}.csv" for size in (3, 7, 99)]
    for path, size in zip(paths, (3, 7, 99), strict=True):
        small_chunks(monkeypatch, size)
        model.recommend_to(path, k=4, sample=1)
    assert len({path.read_bytes() for path in paths}) == 1
    assert read(paths[0])[1] == rows_of(USERS, model.recommend(k=4, sample=1))
    items, scores = model.recommend([USERS[5]], k=4, sample=1)
    np.testing.assert_array_equal(items, model.recommend(k=4, sample=1)[0][5:6])
    for new in (CELLS[5:6], CELLS[5:9]):                # of equal rows, in any place
        np.testing.assert_array_equal(model.recommend(ratings=new, k=4, sample=1)[0][:1], items)
    with pytest.raises(TypeError, match="sample must be an integer or None in recommend_to"):
        model.recommend_to(tmp_path / "x.csv", sample=np.random.default_rng(0))


@pytest.mark.parametrize(("one", "other"), [
    ({"exclude_items": ["a", "items", "b"]}, {"exclude_items": ["a"], "items": ["b"]}),
    ({"items": [["a"], ["b"]]}, {"items": [["a", "b"]]}),
    ({"items": ["1"]}, {"items": [1]}),
])
def test_no_two_calls_are_taken_for_one_because_of_their_words(one, other):
    assert len({lists_out._digest(sorted(each.items())) for each in (one, other)}) == 2


def test_a_killed_process_leaves_work_that_another_finishes(tmp_path):
    model, path = fitted(), tmp_path / "lists.csv"
    model.save(tmp_path / "model")
    script = ("import os, sys, mfcore\n"
              "from mfcore.models.answering import lists_out\n"
              "lists_out.MOST_ROWS = 7\n"
              "model, note = mfcore.load(sys.argv[1]), lists_out.Journal.note\n"
              "def die(self, **done):\n"
              "    note(self, **done)\n"
              "    if done['users'] == 21: os._exit(9)\n"
              "lists_out.Journal.note = die\n"
              "model.recommend_to(sys.argv[2])")
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "model", path], check=False)
    assert done.returncode == 9
    assert not path.exists()
    loaded = mfcore.load(tmp_path / "model").set_params(n_threads=2)
    loaded.recommend_to(path)
    assert read(path)[1] == rows_of(USERS, model.recommend())
    assert sorted(os.listdir(tmp_path)) == ["lists.csv", "model"]


def test_two_calls_do_not_write_one_file(tmp_path):
    path = tmp_path / "lists.csv"
    with lists_out.owned(path, "holds it"), pytest.raises(BlockingIOError, match="in use"):
        fitted().recommend_to(path)


def test_memory_bounds_the_users_at_a_time():
    from mfcore.metrics.topk import rows_within

    assert rows_within(10**6, 10**6, 100, 8) == 0
    for memory in (10**7, 10**8, 10**9):
        for n_items in (100, 20_000, 10**6):
            rows = rows_within(memory, n_items, 6000, 4)
            at_once = min(rows, 4 * min(128, max(1, 2**24 // n_items)))
            assert rows * 6000 + 8 * n_items * at_once <= memory


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"path": "lists.txt"}, ValueError, "must end in .csv, .csv.gz, .npy, .parquet"),
    ({"path": "nowhere/lists.csv"}, FileNotFoundError, "there is no folder"),
    ({"k": 0}, ValueError, "k must be >= 1"),
    ({"memory": "much"}, ValueError, "memory must be a size such as 2GB"),
    ({"memory": 10}, ValueError, "memory must be at least"),
    ({"memory": 1.5}, TypeError, "memory must be an integer"),
    ({"users": ["who"]}, KeyError, "'who'"), ({"items": ["what"]}, KeyError, "'what'"),
    ({"similarity": "dots"}, ValueError, "did you mean 'dot'"),
    ({"as_frame": True}, TypeError, "takes no as_frame"),
    ({"user_features": [["x"]]}, ValueError, "fitted without them"),
    ({"items": samples.matrix(3, 12)}, ValueError, "a row per user, 40, got 3"),
    ({"titles": ["x"]}, ValueError, "titles must be 12")])
def test_what_cannot_be_written_is_refused_before_any_work(options, error, message, tmp_path,
                                                           monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        fitted().recommend_to(**{"path": "lists.csv", **options})
    assert os.listdir(tmp_path) == []


def test_users_of_whom_features_are_known_are_written_too(tmp_path, monkeypatch):
    monkeypatch.setattr(lists_out, "MOST_ROWS", 2)
    groups = [["ab"[row % 2]] for row in range(40)]
    model = samples.small(MatrixFactorization).fit(Ratings(CELLS), user_features=groups)
    new = {"user_features": [["a"], ["b"], ["a"]]}
    for given in (new, {**new, "ratings": CELLS[:3]}):
        model.recommend_to(tmp_path / "lists.npy", 2, **given)
        found = np.load(tmp_path / "lists.npy")
        assert found["user"].tolist() == [0, 0, 1, 1, 2, 2]
        assert found["item"].tolist() == model.recommend(k=2, **given)[0].ravel().tolist()


def test_ids_of_several_types_go_into_text_alone(tmp_path):
    mixed = [*USERS[:-1], 7]
    model = samples.small(MatrixFactorization).fit(Ratings(CELLS, user_ids=mixed))
    model.recommend_to(tmp_path / "lists.csv")
    with pytest.raises(TypeError, match="csv holds any"):
        model.recommend_to(tmp_path / "lists.npy")


def test_text_that_a_file_would_not_give_back_is_refused_before_any_work(path):
    def asked(users, items, **options):
        model = samples.small(MatrixFactorization).fit(
            Ratings(CELLS, user_ids=users, item_ids=items))
        return model.recommend_to(path, k=3, **options)

    half = "a\ud800"
    for users, items, options, what in (
            ([half, *USERS[1:]], ITEMS, {}, "ids of users"),
            (USERS, [half, *ITEMS[1:]], {}, "ids of items"),
            (USERS, ITEMS, {"titles": {"i3": half}}, "titles")):
        with pytest.raises(ValueError, match=f"{what} must be text that UTF-8 can hold"):
            asked(users, items, **options)
    ends = ["a\0", "a", *ITEMS[2:]]
    if path.name.endswith("npy"):
        with pytest.raises(ValueError, match="ids of items must not end in a zero character"):
            asked(USERS, ends)
    else:
        asked(USERS, ends)
        assert {row[1] for row in read(path)[1]} >= {"a\0", "a"}
    assert not [each for each in os.listdir(path.parent) if each.startswith(".")]


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_text_that_a_frame_cannot_hold_is_refused(library, monkeypatch):
    given = pytest.importorskip(library)
    if library == "pandas":                     # (whose text is Arrow's in later versions)
        monkeypatch.setattr(given, "DataFrame", lambda columns: columns["user"][0].encode())
    model = samples.small(MatrixFactorization).fit(
        Ratings(CELLS, user_ids=["a\ud800", *USERS[1:]], item_ids=ITEMS))
    with pytest.raises(TypeError, match=f"{library} cannot hold these columns"):
        model.recommend(k=2, as_frame=library)


def test_parquet_names_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'mfcore\[parquet\]'"):
        fitted().recommend_to(tmp_path / "lists.parquet")
