"""Frames of every library: the same ratings, the same model, the same refusals as of a file."""

from __future__ import annotations

import datetime
import sqlite3
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest

from mfcore import MatrixFactorization, Ratings, evaluate, evaluate_lists, read_ratings
from mfcore.data.features import multi_hot, numeric, one_hot

rng = np.random.default_rng(0)
CELLS = [(f"u{u}", i, float(rng.integers(1, 11)) / 2) for u in range(9) for i in range(50, 57)
         if rng.random() < 0.6]
COLUMNS = dict(zip(("userId", "movieId", "rating"), map(list, zip(*CELLS, strict=True)),
                   strict=True))
WANTED = Ratings.from_arrays(*COLUMNS.values())
SMALL = {"user": ["ann", "bob", "ann"], "item": [11, 11, 12], "rating": [4.0, 3.5, 1.0]}


def pandas():
    return pytest.importorskip("pandas")


def polars():
    pytest.importorskip("narwhals")
    return pytest.importorskip("polars")


def arrow():
    pytest.importorskip("narwhals")
    return pytest.importorskip("pyarrow")


def relation(columns):
    duckdb = pytest.importorskip("duckdb")
    base = duckdb.connect()
    base.register("seen", arrow().table(columns))
    names = list(columns)
    return base.sql(f'select "{names[0]}", "{names[1]}", "{names[2]}"::decimal(6, 2) '
                    f'as "{names[2]}" from seen')


def queried(columns):
    with sqlite3.connect(":memory:") as base:
        base.execute(f"create table seen ({', '.join(columns)})")
        base.executemany("insert into seen values (?, ?, ?)", zip(*columns.values(), strict=True))
        cursor = base.execute("select * from seen")
        return dict(zip([column[0] for column in cursor.description], zip(*cursor, strict=True),
                        strict=True))


def structured(columns):
    rows = list(zip(*columns.values(), strict=True))
    return np.array(rows, np.dtype(list(zip(columns, ("U9", "i8", "f8"), strict=True))))


class Capsule:
    """An object of no library that is known, with Arrow's interface."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


def batches(columns):
    return arrow().table(columns).to_batches(max_chunksize=7)


def decimals(columns):
    return {**columns, "rating": [Decimal(str(each)) for each in columns["rating"]]}


def typed(columns, **types):
    pa = arrow()
    return pa.table({name: pa.array(values, types[name]) if name in types else pa.array(values)
                     for name, values in columns.items()})


FRAMES = {
    "dict of lists": dict,
    "dict of arrays": lambda c: {name: np.array(column) for name, column in c.items()},
    "dict of decimals": decimals,
    "dict of arrow": lambda c: {name: arrow().array(column) for name, column in c.items()},
    "structured array": structured,
    "sqlite": queried,
    "pandas": lambda c: pandas().DataFrame(c),
    "pandas, nullable": lambda c: pandas().DataFrame(c).convert_dtypes(),
    "pandas, arrow": lambda c: arrow() and pandas().DataFrame(c).convert_dtypes(
        dtype_backend="pyarrow"),
    "pandas, objects": lambda c: pandas().DataFrame(c).astype(object),
    "pandas, categories": lambda c: pandas().DataFrame(c).astype(dict.fromkeys(c, "category")),
    "pandas, more categories": lambda c: pandas().DataFrame({**c, [*c][0]: pandas().Categorical(
        [*c.values()][0], categories=["ann", "bob", *(f"u{t}" for t in range(12))])}),
    "pandas, index": lambda c: pandas().DataFrame(c).set_index([*c][0]),
    "pandas, two indices": lambda c: pandas().DataFrame(c).set_index([*c][:2]),
    "pandas, chunks": lambda c: (pandas().DataFrame(c).iloc[t:t + 5] for t in range(0, 99, 5)),
    "polars": lambda c: polars().DataFrame(c),
    "polars, lazy": lambda c: polars().LazyFrame(c),
    "polars, categories": lambda c: polars().DataFrame(c).with_columns(
        polars().col([*c][0]).cast(polars().Categorical)),
    "polars, enum": lambda c: polars().DataFrame(c).with_columns(
        polars().col([*c][0]).cast(polars().Enum(["ann", "bob", *(f"u{t}" for t in range(12))]))),
    "polars, 128 bits": lambda c: polars().DataFrame(c).with_columns(
        polars().col([*c][1]).cast(polars().Int128)),
    "polars, decimals": lambda c: polars().DataFrame(decimals(c)),
    "arrow": lambda c: arrow().table(c),
    "arrow, chunks": lambda c: arrow().Table.from_batches(batches(c)),
    "arrow, batch": lambda c: arrow().table(c).combine_chunks().to_batches()[0],
    "arrow, batches": lambda c: iter(batches(c)),
    "arrow, reader": lambda c: arrow().table(c).to_reader(),
    "arrow, large": lambda c: typed(c, **dict(zip(c, (arrow().large_string(), arrow().uint8()),
                                                  strict=False))),
    "arrow, decimals": lambda c: typed(decimals(c), rating=arrow().decimal128(9, 3)),
    "arrow, decimal ids": lambda c: typed({**c, [*c][1]: [*map(Decimal, [*c.values()][1])]}),
    "arrow, dictionary": lambda c: arrow().table({
        name: arrow().array(values).dictionary_encode() for name, values in c.items()}),
    "arrow, dictionary of chunks": lambda c: arrow().Table.from_batches(batches(c)).set_column(
        0, [*c][0], arrow().Table.from_batches(batches(c)).column(0).dictionary_encode()),
    "capsule": lambda c: Capsule(arrow().table(c)),
    "duckdb": relation,
    "duckdb, fetchnumpy": lambda c: relation(c).fetchnumpy(),
    "duckdb, reader": lambda c: relation(c).to_arrow_reader(),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_every_kind_of_frame_gives_the_same_ratings_predictions_and_recommendations(kind):
    ratings = Ratings.from_frame(FRAMES[kind](COLUMNS))
    assert ratings.user_ids.tolist() == WANTED.user_ids.tolist()
    assert ratings.item_ids.tolist() == WANTED.item_ids.tolist()
    assert ratings.item_ids.dtype == np.int64
    np.testing.assert_array_equal(ratings.by_user.toarray(), WANTED.by_user.toarray())
    if kind not in ("pandas, chunks", "arrow, batches"):        # iterators are only for from_frame
        model, twin = (MatrixFactorization(2, n_epochs=2, random_state=0, n_threads=1).fit(each)
                       for each in (FRAMES[kind](COLUMNS), WANTED))
        np.testing.assert_array_equal(model.predict("u1", 51), twin.predict("u1", 51))
        np.testing.assert_array_equal(model.recommend(["u1", "u2"], 3)[0],
                                      twin.recommend(["u1", "u2"], 3)[0])
        assert evaluate(model, FRAMES[kind](COLUMNS), metrics="rmse") == \
            evaluate(twin, WANTED, metrics="rmse")


@pytest.mark.parametrize("kind", FRAMES)
def test_a_missing_column_is_named_with_those_there_are(kind):
    with pytest.raises(KeyError, match=r"no column 'stars' in the frame; it has \['(userId|ra|m)"):
        Ratings.from_frame(FRAMES[kind](COLUMNS), rating="stars")


GAPS = [kind for kind in FRAMES if kind not in (
    "dict of decimals", "structured array", "pandas, two indices", "polars, decimals",
    "arrow, decimals", "arrow, decimal ids", "duckdb, fetchnumpy")]


@pytest.mark.parametrize("kind", GAPS)
@pytest.mark.parametrize("name", ["user", "item", "rating"])
def test_a_missing_value_is_named_with_its_column_and_row(kind, name):
    gap = {**SMALL, name: [SMALL[name][0], None, SMALL[name][2]]}
    with pytest.raises(ValueError, match=rf"column '{name}' must not be missing, got .* in row 1 "
                                         r"\(1 in all\); drop"):
        Ratings.from_frame(FRAMES[kind](gap))


@pytest.mark.parametrize("values", [
    [1, np.nan], [1, None], [Decimal(1), None], [Decimal(1), Decimal("NaN")],
    np.array([1, np.nan], np.float32), np.ma.array([1, 2], mask=[0, 1]),
    np.ma.array([1.0, 2.0], mask=[0, 1])], ids=str)
def test_missing_values_of_arrays_are_named_with_their_row(values):
    with pytest.raises(ValueError, match="values must not be missing, got .* in row 1"):
        Ratings.from_arrays([1, 2], [1, 2], values)


def test_columns_may_have_other_names_positions_and_weights():
    frame = {"who": [1, 2], "what": [5, 5], "stars": [4, 2], "sure": [0.5, 2]}
    for named in (("who", "what", "stars", "sure"), (0, 1, 2, 3)):
        ratings = Ratings.from_frame(frame, *named)
        assert ratings.by_user.data.tolist() == [4, 2]
        assert ratings.weights.tolist() == [0.5, 2]
    counted = Ratings.from_frame(frame, "who", "what", rating=None)
    assert counted.by_user.data.tolist() == [1, 1]
    numbered = pandas().DataFrame([[4.0, 1, 7]], columns=[2, 0, 1])
    assert Ratings.from_frame(numbered, 0, 1, 2).user_ids.tolist() == [1]       # labels


def test_repeated_rows_of_a_frame_are_merged_as_told():
    frame = {"user": [1, 1], "item": [2, 2], "rating": [3, 4]}
    with pytest.raises(ValueError, match="each .* pair must come once"):
        Ratings.from_frame(frame)
    assert Ratings.from_frame(frame, duplicates="sum").by_user.data.tolist() == [7]


def test_ids_of_a_frame_of_lists_keep_their_types():
    frame = {"user": [1, "2", (1, 2)], "item": [1, 2, 3], "rating": [1, 2, 3]}
    assert set(Ratings.from_frame(frame).user_ids) == {1, "2", (1, 2)}


def test_of_a_lazy_frame_only_the_columns_asked_for_are_computed():
    def fail(column):
        raise AssertionError("computed")

    lazy = polars().LazyFrame({**SMALL, "note": ["a", "b", "c"]}).with_columns(
        polars().col("note").map_batches(fail, return_dtype=polars().String))
    assert Ratings.from_frame(lazy).nnz == 3


# ----------------------------------------------------- what a frame and a file refuse alike

BOTH = {            # columns, and what is said of the frame; None: read, to the same ratings
    "as it is": (SMALL, None),
    "usual names": ({"User ID": [1], "movie_id": [2], "Score": [3.0]}, None),
    "id, decimal": ({**SMALL, "item": [1.0, 2.0, 3.5]}, "got dtype float64, such as 1.0"),
    "id, whole decimal": ({**SMALL, "item": [1.0, 2.0, 3.0]}, "astype..int64.. makes whole"),
    "id, truth": ({**SMALL, "user": [True, False, True]}, "got dtype bool|got True"),
    "id, none": ({**SMALL, "user": ["ann", None, "bob"]}, "got None|got nan"),
    "id, empty": ({**SMALL, "user": ["ann", "", "bob"]}, "must hold ids, got '' in row 1"),
    "id, NULL": ({**SMALL, "user": ["ann", "NULL", "bob"]}, "got 'NULL' in row 1; .*missing="),
    "id, nan as text": ({**SMALL, "user": ["ann", "bob", "nan"]}, "got 'nan' in row 2"),
    "id, unseen": ({**SMALL, "user": ["ann", "b\u200bob", "bob"]}, "ZERO WIDTH|nobody sees"),
    "rating, truth": ({**SMALL, "rating": [True, False, True]}, "must be numbers, got truth"),
    "rating, none": ({**SMALL, "rating": [1.0, None, 2.0]}, "must not be missing"),
    "rating, infinite": ({**SMALL, "rating": [1.0, np.inf, 2.0]}, "must be finite"),
    "rating, words": ({**SMALL, "rating": ["good", "bad", "ugly"]}, "got 'good' in row 0"),
    "no row": ({name: [] for name in SMALL}, "holds no ratings"),
    "no rating": ({"user": ["ann"], "item": ["x"]}, "no column 'rating'"),
    "no item and no rating": ({"user": ["ann"], "note": ["x"]}, "no column 'item', 'rating'"),
    "a pair twice": ({**SMALL, "item": [11, 11, 11]}, "each .* pair must come once"),
}


@pytest.mark.parametrize("kind", ["pandas", "polars"])
@pytest.mark.parametrize("case", BOTH)
def test_what_a_frame_refuses_a_file_refuses_and_the_reverse(case, kind, tmp_path):
    columns, said = BOTH[case]
    frame = FRAMES[kind](columns)
    path = tmp_path / "r.csv"
    if kind == "pandas":
        frame.to_csv(path, index=False)
    else:
        frame.write_csv(path)
    if said is None:
        found, wanted = Ratings.from_frame(frame), read_ratings(path)
        assert (found.by_user != wanted.by_user).nnz == 0
        assert found.user_ids.tolist() == wanted.user_ids.tolist()
        return
    with pytest.raises((ValueError, TypeError, KeyError), match=said):
        Ratings.from_frame(frame)
    with pytest.raises(ValueError, match="."):
        read_ratings(path)


def test_a_word_that_stands_for_a_missing_id_may_be_a_name():
    assert Ratings.from_frame({**SMALL, "user": ["NA", "DE", "NA"]}, missing=()).shape == (2, 2)


def test_one_column_is_no_frame_and_a_type_without_arrays_is_named():
    arrow = pytest.importorskip("pyarrow")
    for column in (polars().Series("user", [1]), arrow.array([{"user": 1}])):
        with pytest.raises(TypeError, match="must have columns by name"):
            Ratings.from_frame(column)
    union = arrow.UnionArray.from_sparse(arrow.array([0, 1, 0], arrow.int8()),
                                         [arrow.array([1, 2, 3]), arrow.array(list("abc"))])
    with pytest.raises(TypeError, match="column 'user' of type .* cannot be read; make numbers"):
        Ratings.from_frame(arrow.table({**SMALL, "user": union}))
    with pytest.raises(TypeError, match="must be hashable .*ndarray.*: make text of such"):
        Ratings.from_frame(arrow.table({**SMALL, "user": [[1], [2], [3]]}))


def test_dates_are_no_ids():
    days = [datetime.datetime(2024, 1, day) for day in (1, 2, 3)]
    for kind in ("pandas", "arrow", "polars"):
        frame = FRAMES[kind]({**SMALL, "user": days})
        with pytest.raises(TypeError, match=r"got dtype datetime64\[.*astype\(str\) makes names"):
            Ratings.from_frame(frame)


def test_columns_that_cannot_be_told_apart_are_refused():
    twice = pandas().DataFrame([[1, 2, 3.0, 4]], columns=["user", "item", "rating", "user"])
    with pytest.raises(ValueError, match="'user' twice"):
        Ratings.from_frame(twice)
    with pytest.raises(ValueError, match="got 'user' twice"):
        Ratings.from_frame(SMALL, "user", "user")
    nested = pandas().DataFrame([[1, 2, 3.0]], columns=pandas().MultiIndex.from_tuples(
        [("a", "user"), ("a", "item"), ("b", "rating")]))
    with pytest.raises(KeyError, match=r"no column 'user', .*frame.columns = \[...\]"):
        Ratings.from_frame(nested)
    with pytest.raises(KeyError, match="did you mean 'customerName'"):
        Ratings.from_frame({"customerName": [1], "item": [2], "rating": [3]}, "customername_")


@pytest.mark.parametrize("frame", [3, "ratings", None, [1, 2], np.ones((2, 2)), WANTED], ids=repr)
def test_what_has_no_columns_is_no_frame(frame):
    with pytest.raises(TypeError, match="frame must have columns by name"):
        Ratings.from_frame(frame)


@pytest.mark.parametrize("value", [1, "ann", None])
def test_a_single_value_is_no_column(value):
    with pytest.raises(TypeError, match="column 'user' must hold a value per rating, got"):
        Ratings.from_frame({**SMALL, "user": value})


def test_a_series_says_how_it_becomes_a_frame():
    counts = pandas().DataFrame(SMALL).groupby(["user", "item"]).size()
    with pytest.raises(TypeError, match="got Series; reset_index"):
        Ratings.from_frame(counts)


# ------------------------------------------------------------------- where frames may stand

def test_a_frame_with_other_names_says_what_reads_it():
    model = MatrixFactorization(2, n_epochs=1)
    for frame in ({"who": [1], "what": [2], "stars": [3.0]}, {"user": [1], "item": [2]}):
        with pytest.raises(TypeError, match=r"no column .*Ratings\.from_frame\(frame, user=\.\.\."):
            model.fit(frame)
    rows = np.array([[1, 2, 5], [1, 3, 4], [2, 2, 1]])
    with pytest.raises(TypeError, match=r"of shape \(3, 3\); .*from_frame out of one row per"):
        model.fit(rows)


def test_lists_of_recommended_items_may_be_any_frame():
    lists = {"user": ["u1", "u1", "u2"], "item": [50, 51, 52], "rank": [1, 2, 1]}
    wanted = evaluate_lists(lists, WANTED, metrics="precision@1")
    for kind in ("pandas", "polars, lazy", "arrow, reader"):
        assert evaluate_lists(FRAMES[kind](lists), WANTED, metrics="precision@1") == wanted


def test_without_narwhals_dicts_and_pandas_work_and_the_rest_names_the_extra():
    script = (
        "import sys; sys.modules['narwhals'] = None\n"
        "import pandas, pyarrow, mfcore\n"
        f"columns = {SMALL}\n"
        "for frame in columns, pandas.DataFrame(columns):\n"
        "    assert mfcore.Ratings.from_frame(frame).nnz == 3\n"
        "try:\n"
        "    mfcore.Ratings.from_frame(pyarrow.table(columns))\n"
        "except ImportError as error:\n"
        "    print(error)")
    pandas(), arrow()
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    wanted = "reading Table needs narwhals: pip install 'mfcore[frames]'"
    assert said.stdout.strip() == wanted, said.stderr


# ----------------------------------------------------------------- missing values of features

MISSING = {
    "None": lambda: ["a", None], "NaN": lambda: ["a", np.nan], "NaT": lambda: ["a", pandas().NaT],
    "NA": lambda: ["a", pandas().NA], "decimal": lambda: ["a", Decimal("NaN")],
    "signalling": lambda: ["a", Decimal("sNaN")], "arrow": lambda: arrow().array(["a", None]),
    "arrow, chunks": lambda: arrow().chunked_array([["a"], [None]]),
    "arrow, dictionary": lambda: arrow().array(["a", None]).dictionary_encode(),
    "arrow, scalar": lambda: ["a", arrow().scalar(None)],
    "polars": lambda: polars().Series(["a", None]),
    "pandas": lambda: pandas().Series(["a", None]),
    "pandas, text": lambda: pandas().Series(["a", None], dtype="string"),
    "pandas, categories": lambda: pandas().Series(["a", None], dtype="category"),
    "masked": lambda: np.ma.array(["a", "b"], mask=[0, 1]),
    "dates": lambda: np.array(["2020-01-01", "NaT"], "datetime64[D]")}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_category_is_refused_however_it_is_spelled(kind):
    for make in (one_hot, multi_hot) if kind != "dates" else (one_hot,):
        with pytest.raises(ValueError, match="row 1 is missing"):
            make(MISSING[kind](), "group")


@pytest.mark.parametrize("values", [
    lambda: [1.0, None], lambda: [1.0, np.nan], lambda: [1, pandas().NA], lambda: [1, pandas().NaT],
    lambda: arrow().array([1, None]), lambda: polars().Series([1, None]),
    lambda: pandas().Series([1, None], dtype="Int64"), lambda: [Decimal(1), None],
    lambda: np.ma.array([1, 2], mask=[0, 1])],
    ids=["None", "NaN", "NA", "NaT", "arrow", "polars", "Int64", "decimal", "masked"])
def test_a_missing_number_is_refused_however_it_is_spelled(values):
    with pytest.raises(ValueError, match="age must (not be missing|be finite), got .*1"):
        numeric(values(), "age")


def test_categories_of_arrow_are_those_of_python():
    found = one_hot(arrow().array(["b", "a"]), "group", categories=["a", "b"])
    assert found.matrix.toarray().tolist() == [[0, 1], [1, 0]]
