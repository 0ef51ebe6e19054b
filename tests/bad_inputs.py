"""Every public function times every bad input: the table from which the cases come.

    python tests/bad_inputs.py

prints how many cases there are, and those that break a promise.  A case replaces one argument
of a call that works.  It must end in one of two ways: an answer of finite numbers, where the
input means something after all, or an error that a line of this library raises, of a type
that its docstring names and with a sentence; and what was fitted before stays as it was.
"""

from __future__ import annotations

import copy
import functools
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import samples
import scipy.sparse as sp

import mfcore
from mfcore import Ratings
from mfcore.data import features, glue, split
from mfcore.metrics import convergence, embedding, rating
from mfcore.parallel import Pool
from mfcore.validation import DivergenceError

N_USERS, N_ITEMS = 11, 8
CELLS = samples.counts()
STATES_NAN = ("metrics.effective_sample_size", "metrics.r_hat")     # of draws all alike, they say
LIBRARY = str(Path(mfcore.__file__).parent)
ERRORS = (ValueError, TypeError, LookupError, NotImplementedError, DivergenceError, OSError)


class Case(NamedTuple):
    """One argument of one call, replaced."""

    function: str
    argument: str
    input: str
    call: Callable[[], Any]

    def __str__(self) -> str:
        return f"{self.function}({self.argument}={self.input})"


# ----------------------------------------------------------------------- what is bad

def changed(**parts: Any) -> sp.csr_array:
    """The sample with some of its arrays replaced behind SciPy's back."""
    cells = CELLS.copy()
    for name, value in parts.items():
        setattr(cells, name, value)
    return cells


def at_five(value: Any, dtype: Any = np.float64) -> np.ndarray:
    data = CELLS.data.astype(dtype)
    data[5] = value
    return data


def unsorted() -> sp.csr_array:
    cells = CELLS.copy()
    for start, stop in zip(cells.indptr[:-1], cells.indptr[1:], strict=True):
        cells.data[start:stop] = cells.data[start:stop][::-1]
        cells.indices[start:stop] = cells.indices[start:stop][::-1]
    cells.has_sorted_indices = False
    return cells


NOT_A_NUMBER, INFINITE = float("nan"), float("inf")
OBJECT = object()
TYPES = {"None": None, "a string": "five", "bytes": b"5", "an object": OBJECT, "a dict": {},
         "a set": {1, 2}, "a function": len, "a complex number": 1j}
MATRICES: dict[str, Any] = {
    **TYPES, "a number": 3, "dense": CELLS.toarray(), "a list": CELLS.toarray().tolist(),
    "a ragged list": [[1.0, 2.0], [3.0]], "an empty list": [],
    "a matrix of objects": changed(data=CELLS.data.astype(object)),
    "a complex matrix": CELLS.astype(complex),
    "NaN": changed(data=at_five(NOT_A_NUMBER)), "inf": changed(data=at_five(INFINITE)),
    "-inf": changed(data=at_five(-INFINITE)), "negative": changed(data=at_five(-3.0)),
    "1e300": changed(data=at_five(1e300)), "subnormal": changed(data=at_five(1e-310)),
    "all equal": changed(data=np.full(CELLS.nnz, 3.0)),
    "all zero": changed(data=np.zeros(CELLS.nnz)),
    "bool": CELLS.astype(bool), "no cell": sp.csr_array((N_USERS, N_ITEMS)),
    "no row": sp.csr_array((0, N_ITEMS)), "no column": sp.csr_array((N_USERS, 0)),
    "one row": CELLS[[0]], "one column": sp.csr_array(CELLS[:, [0]]),
    "one cell": sp.csr_array(np.array([[3.0]])), "transposed": sp.csr_array(CELLS.T),
    "wider": samples.counts(N_USERS, N_ITEMS + 1), "taller": samples.counts(N_USERS + 1, N_ITEMS),
    "duplicates": sp.coo_array(([1.0, 2.0, 3.0], ([0, 0, 1], [1, 1, 0])), (N_USERS, N_ITEMS)),
    "unsorted": unsorted(),
    "a column too large": changed(indices=np.full(CELLS.nnz, N_ITEMS, np.int32)),
    "a negative column": changed(indices=np.full(CELLS.nnz, -1, np.int32)),
    "a row pointer backwards": changed(indptr=CELLS.indptr[::-1].copy()),
    "a row pointer too long": changed(indptr=np.append(CELLS.indptr, CELLS.nnz + 9)),
    "a row pointer that wraps": changed(
        indptr=np.append(CELLS.indptr[:-1], -2**31).astype(np.int32)),
    "named otherwise": Ratings(CELLS, user_ids=samples.names(N_USERS, "x"),
                               item_ids=samples.names(N_ITEMS, "y")),
}
ONES: dict[str, Any] = {
    **TYPES, "a float": 1.5, "a whole float": 1.0, "NaN": NOT_A_NUMBER, "inf": INFINITE,
    "negative": -1, "too large": 99, "huge": 2**70, "true": True, "a date": np.datetime64("2020"),
}
IDS: dict[str, Any] = {
    **{f"[{name}]": [value] for name, value in ONES.items()}, **ONES,
    "nothing": [], "two dimensions": [[0, 1], [1, 2]], "ragged": [[0, 1], [2]],
    "repeated": [1, 1], "an array of objects": np.array([0, "1", None], object),
    "an array of floats": np.array([0.0, 1.0]), "uint64": np.array([2**64 - 1], np.uint64),
    "an empty array": np.empty(0, np.int64), "sparse": CELLS, "a mask": np.ones(N_ITEMS, bool),
}
COUNTS = {**ONES, "zero": 0, "a list": [3], "an array": np.array([3, 4])}
NAMES = {**TYPES, "unknown": "no such name", "a number": 1, "a list": ["dot"], "empty": ""}
TRUTHS = {**TYPES, "a number": 1, "a list": [True]}
VECTORS: dict[str, Any] = {
    **TYPES, "a number": 3, "nothing": [], "too short": [1.0, 2.0], "too long": [1.0] * 99,
    "ragged": [[1.0, 2.0], [3.0]], "two dimensions": CELLS.toarray(),
    "NaN": at_five(NOT_A_NUMBER), "inf": at_five(INFINITE), "-inf": at_five(-INFINITE),
    "negative": at_five(-3.0), "1e300": at_five(1e300), "subnormal": at_five(1e-310),
    "objects": CELLS.data.astype(object), "complex": CELLS.data.astype(complex),
    "strings": CELLS.data.astype(str), "all equal": np.full(CELLS.nnz, 3.0),
    "dates": np.full(CELLS.nnz, np.datetime64("2020")), "sparse": CELLS,
    "bool": np.ones(CELLS.nnz, bool),
}
PAIRS: dict[str, Any] = {
    **TYPES, "a number": 3, "nothing": np.empty((0, 2), int), "one column": [[0], [1]],
    "three columns": [[0, 1, 2]], "one dimension": [0, 1], "floats": [[0.5, 1.5]] * CELLS.nnz,
    "ragged": [[0, 1], [2]], "repeated": [[0, 1]] * CELLS.nnz, "sparse": CELLS,
    "NaN": [[NOT_A_NUMBER, 1.0]] * CELLS.nnz, "None in it": [[None, 1]] * CELLS.nnz,
}
FEATURES: dict[str, Any] = {
    **TYPES, "a number": 3, "other rows": sp.csr_array((3, 2)), "nothing": [],
    "unknown names": [["colour=red"]] * N_USERS, "numbers": [[1]] * N_USERS,
    "ragged": [["a"], "b", 3], "NaN": sp.csr_array(np.full((N_USERS, 2), NOT_A_NUMBER)),
    "inf": sp.csr_array(np.full((N_USERS, 2), INFINITE)), "dense": np.ones((N_USERS, 2)),
    "strings": ["a"] * N_USERS,
}
SHARES = {**ONES, "zero": 0, "one": 1, "negative": -0.5, "above one": 1.5, "a list": [0.2]}
SEEDS = {**TYPES, "negative": -1, "a float": 1.5, "true": True, "a list": [1]}
GROUPS = {**VECTORS, "a string each": ["a"] * N_USERS}
FRAMES: dict[str, Any] = {
    **TYPES, "a number": 3, "a list": [1, 2], "no column": {"user": [1]},
    "lengths": {"user": [1, 2], "item": [1], "rating": [1.0]},
    "NaN": {"user": [1], "item": [1], "rating": [NOT_A_NUMBER]},
    "words": {"user": [1], "item": [1], "rating": ["good"]},
    "float ids": {"user": [1.5], "item": [1], "rating": [1.0]},
    "NaN ids": {"user": [NOT_A_NUMBER], "item": [1], "rating": [1.0]},
    "None ids": {"user": [None, 1], "item": [1, 2], "rating": [1.0, 2.0]},
    "list ids": {"user": [[1], [2]], "item": [1, 2], "rating": [1.0, 2.0]},
    "nothing": {"user": [], "item": [], "rating": []},
    "masked": {"user": [1], "item": [1], "rating": np.ma.array([1.0], mask=[True])},
}
KINDS: dict[str, dict[str, Any]] = {
    "matrix": MATRICES, "ids": IDS, "one": ONES, "count": COUNTS, "name": NAMES, "truth": TRUTHS,
    "vector": VECTORS, "pairs": PAIRS, "features": FEATURES, "share": SHARES, "seed": SEEDS,
    "groups": GROUPS, "frame": FRAMES,
    "path": {**TYPES, "a number": 3, "nowhere": "/nowhere/at/all", "a folder": "/", "empty": "",
             "a zero byte": "a\0b"},
}

# ---------------------------------------------------------------------- what is public

# Method: the arguments of a call that works, and the kind of each one that is replaced.
METHODS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("fit", {"ratings": CELLS}, {"ratings": "matrix", "user_features": "features",
                                 "item_features": "features", "eval_set": "matrix",
                                 "callbacks": "count", "checkpoint": "path"}),
    ("fit", {"ratings": list(zip(*CELLS.nonzero(), strict=True)), "y": CELLS.data[CELLS.data > 0]},
     {"ratings": "pairs", "y": "vector"}),
    ("predict", {"users": [0, 1], "items": [0, 1]}, {"users": "ids", "items": "ids"}),
    ("predict", {"users": [0, 1], "items": [0, 1]},
     {"ratings": "matrix", "user_features": "features"}),
    ("recommend", {"users": [0, 1], "k": 3},
     {"users": "ids", "k": "count", "similarity": "name", "exclude_seen": "truth",
      "items": "ids", "exclude_items": "ids"}),
    ("recommend", {"k": 3}, {"ratings": "matrix", "user_features": "features"}),
    ("recommend_users", {"items": [0, 1], "k": 3},
     {"items": "ids", "k": "count", "similarity": "name", "exclude_seen": "truth",
      "users": "ids", "exclude_users": "ids", "unknown": "name"}),
    ("similar_items", {"of": [0, 1], "k": 2},
     {"of": "ids", "k": "count", "similarity": "name", "items": "ids", "exclude_items": "ids"}),
    ("similar_users", {"of": [0, 1], "k": 2},
     {"of": "ids", "k": "count", "similarity": "name", "users": "ids", "exclude_users": "ids"}),
    ("explain", {"user": 0, "item": 1, "k": 2}, {"user": "one", "item": "one", "k": "count"}),
    ("fold_in_users", {"ratings": CELLS}, {"ratings": "matrix", "user_features": "features"}),
    ("fold_in_items", {"ratings": CELLS}, {"ratings": "matrix", "item_features": "features"}),
    ("partial_fit", {"ratings": CELLS}, {"ratings": "matrix", "users": "ids",
                                         "user_features": "features"}),
    ("update", {"ratings": CELLS}, {
        "ratings": "matrix", "users": "ids", "items": "ids", "user_features": "features",
        "item_features": "features", "how": "name", "rows": "name", "unknown": "name",
        "n_passes": "count"}),
    ("partial_fit_items", {"ratings": CELLS}, {"ratings": "matrix", "items": "ids",
                                               "item_features": "features"}),
    ("forget", {"users": [0, 1]}, {"users": "ids"}),
    ("forget", {"items": [0, 1]}, {"items": "ids"}),
    ("objective", {}, {"ratings": "matrix"}),
    ("score", {"ratings": samples.counts(seed=9)}, {"ratings": "matrix"}),
    ("score", {"ratings": [[0, 1], [1, 2]], "y": [1.0, 2.0]}, {"ratings": "pairs", "y": "vector"}),
    ("save", {}, {"path": "path"}),
]


@functools.cache
def fitted(made: Any) -> Any:
    """A fitted model of each class, to be copied."""
    return samples.small(made).fit(CELLS)


def of_model(made: Any) -> Iterator[Case]:
    """Cases of every method of one class, each on a model of its own."""
    for name, good, kinds in METHODS:
        for argument, kind in kinds.items():
            for shown, bad in KINDS[kind].items():
                yield Case(f"{made.__name__}.{name}", argument, shown, functools.partial(
                    _asked, made, name, {**good, argument: bad}))


def _asked(made: Any, name: str, arguments: dict[str, Any]) -> Any:
    model = copy.copy(fitted(made))
    before = dict(vars(model))
    try:
        answer = getattr(model, name)(**arguments)
    except Exception:
        if any(vars(model).get(key) is not value for key, value in before.items()):
            raise AssertionError("the model changed, and then an error came") from None
        raise
    if answer is model:
        return model.predict(np.arange(model.n_users_), 0), model.recommend(k=3)
    return answer


PARAMETERS = {
    **TYPES, "zero": 0, "negative": -1, "a fraction": 0.5, "NaN": NOT_A_NUMBER, "inf": INFINITE,
    "a list": [], "an array": np.ones(3), "true": True, "an unknown name": "no such name",
    "an empty tuple": (), "a tuple of words": ("a", "b"), "a tuple of zeros": (0, 0),
}


def of_parameters(made: Any) -> Iterator[Case]:
    """Cases of every hyper-parameter of one class."""
    for name in made._parameter_names():
        for shown, bad in PARAMETERS.items():
            yield Case(made.__name__, name, shown, functools.partial(_made, made, name, bad))


def _made(made: Any, name: str, value: Any) -> Any:
    model = samples.small(made)
    setattr(model, name, value)
    model.fit(CELLS)
    return model.predict(np.arange(N_USERS), 0), model.recommend(k=3)


def functions() -> list[tuple[str, Any, dict[str, Any], dict[str, str]]]:
    """Functions that are no methods of models."""
    model, ratings = fitted(mfcore.MatrixFactorization), Ratings(CELLS)
    users, items = (np.asarray(part) for part in Ratings(CELLS).by_user.nonzero())
    triples = {"users": users, "items": items, "values": np.ones(len(users))}
    test, X = samples.counts(seed=9), np.random.default_rng(0).normal(size=(20, 3))
    times = np.arange(CELLS.nnz)
    return [
        ("Ratings", Ratings, {"matrix": CELLS}, {
            "matrix": "matrix", "weights": "vector", "user_ids": "ids", "item_ids": "ids"}),
        ("Ratings.from_arrays", Ratings.from_arrays, triples, {
            "users": "ids", "items": "ids", "values": "vector", "weights": "vector",
            "duplicates": "name"}),
        ("Ratings.from_frame", Ratings.from_frame, {"frame": {"user": [1], "item": [2],
                                                              "rating": [3.0]}},
         {"frame": "frame", "user": "name", "item": "name", "rating": "name", "weight": "name"}),
        ("Ratings.open", Ratings.open, {}, {"folder": "path"}),
        ("Ratings.write", ratings.write, {}, {"folder": "path"}),
        ("Ratings.select_users", ratings.select_users, {}, {"rows": "ids"}),
        ("Ratings.select_cells", ratings.select_cells, {}, {"chosen": "vector"}),
        ("Ratings.user_positions", ratings.user_positions, {}, {"users": "ids"}),
        ("read_ratings", mfcore.read_ratings, {"path": csv_file()}, {
            "path": "path", "user": "name", "item": "name", "rating": "name", "weight": "name",
            "separator": "name", "header": "truth", "duplicates": "name", "encoding": "name",
            "n_threads": "count"}),
        ("load", mfcore.load, {}, {"path": "path"}),
        ("fetch", mfcore.fetch, {"name": "planted"}, {"name": "name"}),
        ("evaluate", mfcore.evaluate, {"model": model, "test": test}, {
            "model": "matrix", "test": "matrix", "fold_in": "matrix", "user_features": "features",
            "candidates": "ids", "groups": "groups", "k": "count", "metrics": "name",
            "per_user": "truth", "n_threads": "count"}),
        ("evaluate of lists", mfcore.evaluate,
         {"model": model, "test": test, "metrics": "entropy", "k": 2,
          "item_features": CELLS.T.tocsr()}, {"item_features": "features"}),
        ("evaluate_lists", mfcore.evaluate_lists,
         {"frame": {"user": [0, 0, 1], "item": [1, 2, 1], "rating": [3.0, 2.0, 1.0]},
          "test": test, "score": "rating"},
         {"frame": "frame", "test": "matrix", "user": "name", "item": "name", "score": "name",
          "rank": "name", "train": "matrix", "k": "count", "metrics": "name", "unknown": "name",
          "per_user": "truth", "n_threads": "count"}),
        ("compare", mfcore.compare,
         {"models": {"one": model, "other": fitted(mfcore.BiasOnly)}, "ratings": test, "k": 3,
          "refits": 0},
         {"models": "matrix", "ratings": "matrix", "baseline": "name", "metrics": "name",
          "k": "count", "confidence": "share", "method": "name", "refits": "count",
          "random_state": "seed", "exclude_seen": "truth"}),
        ("rerank", mfcore.rerank,
         {"items": [[0, 1, 2]], "scores": [[3.0, 2.0, 1.0]], "item_features": np.eye(N_ITEMS),
          "k": 2},
         {"items": "matrix", "scores": "matrix", "item_features": "matrix", "k": "count",
          "diversity": "share", "item_ids": "ids"}),
        ("cross_validate", mfcore.cross_validate,
         {"model": samples.small(mfcore.BiasOnly), "ratings": CELLS, "n_folds": 2},
         {"model": "matrix", "ratings": "matrix", "n_folds": "count", "metrics": "name",
          "random_state": "seed"}),
        *[(f"split.{function.__name__}", function, {"ratings": CELLS}, {
            "ratings": "matrix", "test_size": "share", "random_state": "seed"})
          for function in (split.random_split, split.per_user_split, split.user_split)],
        ("split.k_fold", lambda **given: list(split.k_fold(**given)), {"ratings": CELLS}, {
            "ratings": "matrix", "n_folds": "count", "random_state": "seed"}),
        *[(f"split.{function.__name__}", function, {"ratings": CELLS, "timestamps": times}, {
            "ratings": "matrix", "timestamps": "vector", size: kind})
          for function, size, kind in ((split.leave_last_out, "n", "count"),
                                       (split.time_split, "test_size", "share"))],
        ("features.one_hot", features.one_hot, {"values": ["a", "b"]}, {"values": "ids"}),
        ("features.multi_hot", features.multi_hot, {"values": [["a"], ["b"]]}, {
            "values": "features"}),
        ("features.numeric", features.numeric, {"values": [1.0, 2.0], "name": "age"}, {
            "values": "vector", "name": "name"}),
        ("features.history", features.history, {}, {"ratings": "matrix"}),
        ("glue", glue.glue, {"first": CELLS, "second": CELLS}, {
            "first": "matrix", "second": "matrix"}),
        *[(f"metrics.{function.__name__}", function, {
            "truth": [1.0, 2.0], "predicted": [1.0, 3.0]}, {
            "truth": "vector", "predicted": "vector", "weights": "vector"})
          for function in (rating.rmse, rating.mae)],
        *[(f"metrics.{function.__name__}", function, {"X": X}, {"X": "matrix"})
          for function in (embedding.effective_rank, embedding.mean_cosine,
                           embedding.independence)],
        ("metrics.neighbour_purity", embedding.neighbour_purity,
         {"X": X, "labels": [0, 1] * 10}, {"X": "matrix", "labels": "ids", "k": "count"}),
        ("metrics.r_hat", convergence.r_hat, {}, {"chains": "matrix"}),
        ("metrics.effective_sample_size", convergence.effective_sample_size, {}, {
            "draws": "vector"}),
    ]


@functools.cache
def csv_file() -> str:
    """A small ratings file that stays while Python runs."""
    path = Path(tempfile.mkdtemp(prefix="mfcore-"), "ratings.csv")
    path.write_text("user,item,rating\n1,2,3\n2,2,4\n")
    return str(path)


def of_functions() -> Iterator[Case]:
    """Cases of everything else that is public."""
    for name, function, good, kinds in functions():
        for argument, kind in kinds.items():
            for shown, bad in KINDS[kind].items():
                yield Case(name, argument, shown,
                           functools.partial(function, **{**good, argument: bad}))


# --------------------------------------------------------------------------- verdicts

def defect(case: Case) -> str | None:
    """Say what is wrong with the outcome of a case; None where nothing is."""
    try:
        answer = case.call()
    except ERRORS as error:
        return _wrong_error(case, error)
    except Exception as error:
        return f"{case}: {type(error).__name__}: {error}"
    silent = case.function not in STATES_NAN and any(
        np.isnan(value).any() for value in _numbers(answer))
    return f"{case}: answers NaN" if silent else None


def _wrong_error(case: Case, error: Exception) -> str | None:
    frame, line = list(traceback.walk_tb(error.__traceback__))[-1]
    if not str(error).strip():
        return f"{case}: {type(error).__name__} without a sentence"
    if not frame.f_code.co_filename.startswith(LIBRARY):
        return (f"{case}: {type(error).__name__} from {Path(frame.f_code.co_filename).name}:"
                f"{line}: {error}")
    return None


def _numbers(answer: Any) -> Iterator[np.ndarray]:
    """All arrays of floats in an answer."""
    if isinstance(answer, (tuple, list)):
        for each in answer:
            yield from _numbers(each)
    elif isinstance(answer, dict):
        yield from _numbers(list(answer.values()))
    elif isinstance(answer, (float, np.floating)):
        yield np.array(answer)
    elif isinstance(answer, Ratings):
        yield answer.by_user.data
    elif sp.issparse(answer):
        yield answer.data
    elif isinstance(answer, np.ndarray) and answer.dtype.kind == "f":
        yield answer


def cases() -> Iterator[Case]:
    """All of them."""
    for made in samples.EVERY:
        yield from of_model(made)
        yield from of_parameters(made)
    yield from of_functions()


def defects(tried: Iterable[Case]) -> tuple[int, list[str]]:
    """Try cases; return how many there were, and what is wrong with some."""
    count, found = 0, []
    with Pool(1), np.errstate(all="ignore"):            # (BLAS is held once, not for each case)
        for count, case in enumerate(tried, 1):         # noqa: B007
            found.append(defect(case))
    return count, [wrong for wrong in found if wrong]


def main() -> None:
    """Print how many cases there are, and the defects."""
    count, found = defects(cases())
    for wrong in found:
        print(wrong)
    print(f"{count} bad inputs, {len(found)} defects")


if __name__ == "__main__":
    main()
