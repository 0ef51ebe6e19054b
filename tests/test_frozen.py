"""Matrices that models rely on cannot be changed, whatever SciPy offers to change them.

Every name of SciPy's class is tried.  A method that needs arguments and has none here fails the
walk, so that what a later SciPy adds is looked at.
"""

from __future__ import annotations

import copy
import inspect
import operator
import pickle
import warnings
from contextlib import suppress

import numpy as np
import pytest
import scipy.sparse as sp

from mfcore import ImplicitMF, Ratings
from mfcore.data.canonical import FrozenCSR, frozen
from mfcore.data.features import Features, one_hot

OTHER = np.arange(12.0).reshape(3, 4)


def _set(key, value):
    def change(matrix):
        matrix[key] = value
    return change


def _assign(name, value):
    def change(matrix):
        setattr(matrix, name, value)
    return change


# What to call a method with, where it needs something.
ARGUMENTS = {
    "asformat": ("coo",), "astype": (np.float64,), "dot": (OTHER.T,), "maximum": (OTHER,),
    "minimum": (OTHER,), "multiply": (OTHER,), "power": (2,), "reshape": ((4, 3),),
    "resize": ((2, 2),), "setdiag": (7,), "__array_priority__": None, "__format__": ("",),
    "__getitem__": ((1, slice(None)),), "__setitem__": ((0, 1), 8), "__iadd__": (OTHER,),
    "__isub__": (OTHER,), "__imul__": (3,), "__itruediv__": (4,), "__rmatmul__": (OTHER.T,),
    "__pow__": (2,), "__reduce_ex__": (4,), "__setattr__": ("data", np.zeros(0)),
    "__delattr__": ("data",), "__getattribute__": ("data",)}
# Creates, tells of the class, or cannot be called on a matrix.
APART = {"__class__", "__class_getitem__", "__init__", "__init_subclass__", "__new__",
         "__subclasshook__", "__dir__", "__weakref__", "__slots__", "__doc__", "__dict__",
         "__module__", "__abstractmethods__", "__array_priority__", "__annotations__",
         "__firstlineno__", "__static_attributes__"}
BINARY = ("add", "sub", "mul", "matmul", "truediv", "eq", "ne", "lt", "le", "gt", "ge", "radd",
          "rsub", "rmul", "rtruediv")
ARGUMENTS.update({f"__{name}__": (OTHER.T if name == "matmul" else OTHER,) for name in BINARY})

CHANGES = {
    "new diagonal": lambda A: A.setdiag(5, k=1), "old diagonal": lambda A: A.setdiag(5),
    "old cell": _set((0, 0), 9), "new cell": _set((0, 1), 9), "row": _set(1, [[1, 2, 3, 4]]),
    "mask": _set(np.ones((3, 4), bool), 3), "data": _assign("data", np.ones(5)),
    "indices": _assign("indices", np.zeros(5, int)), "shape": _assign("shape", (4, 3)),
    "indptr": _assign("indptr", np.zeros(4, int)), "dtype": _assign("dtype", np.int32),
    "unsorted": _assign("has_sorted_indices", False), "smaller": lambda A: A.resize((1, 1)),
    "not canonical": _assign("has_canonical_format", False), "larger": lambda A: A.resize(9, 9),
    "no zeros": lambda A: A.eliminate_zeros(), "times": lambda A: operator.imul(A, 3),
    "over": lambda A: operator.itruediv(A, 3), "plus": lambda A: operator.iadd(A, A),
    "minus": lambda A: operator.isub(A, A), "product": lambda A: operator.imatmul(A, A.T),
    "power": lambda A: operator.ipow(A, 2), "values": lambda A: np.copyto(A.data, 1),
    "deleted": lambda A: delattr(A, "data"), "transposed": lambda A: A.T.setdiag(4),
    "shared": lambda A: sp.csr_array(A).setdiag(4), "of a part": lambda A: _set((0, 0), 8)(A[:2]),
    "of a view": lambda A: A.tocsr().eliminate_zeros(), "as csc": lambda A: A.T.resize((1, 1)),
    "as coo": lambda A: A.tocoo(copy=False).eliminate_zeros(), "sorted": lambda A: A.sort_indices(),
    "summed": lambda A: A.sum_duplicates(), "pruned": lambda A: A.prune()}


def plain():
    """A canonical matrix with a stored zero and an empty row."""
    return sp.csr_array((np.array([1.0, 0.0, 2.0, 3.0, 4.0]), np.array([0, 2, 0, 1, 3]),
                         np.array([0, 2, 2, 5])), shape=(3, 4))


def state(matrix):
    return [vars(matrix)[name].tobytes() if isinstance(vars(matrix)[name], np.ndarray) else
            vars(matrix)[name] for name in sorted(vars(matrix))]


def callables():
    return [name for name in dir(sp.csr_array) if name not in APART
            and not (name.startswith("_") and not name.endswith("__"))
            and callable(getattr(sp.csr_array, name))]


def called(matrix, name):
    """Return what a method answers, and the error that it ends in."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(matrix, name)(*ARGUMENTS.get(name, ())), None
        except Exception as error:
            return None, error


@pytest.mark.parametrize("name", callables())
def test_every_method_of_scipy_leaves_a_frozen_matrix_and_answers_as_for_any(name):
    matrix = frozen(plain())
    before = state(matrix)
    result, error = called(matrix, name)
    assert state(matrix) == before
    if result is NotImplemented or (error is not None and "frozen" in str(error)):
        return
    wanted, failed = called(plain(), name)
    assert type(error) is type(failed), error
    if sp.issparse(wanted) and result is not matrix:
        assert type(result) is type(wanted)
        np.testing.assert_array_equal(result.toarray(), wanted.toarray())
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_array_equal(result, wanted)


def test_every_method_that_needs_arguments_has_some_here():
    for name in callables():
        try:
            needed = [each for each in inspect.signature(getattr(plain(), name)).parameters.values()
                      if each.default is each.empty and each.kind < each.VAR_POSITIONAL]
        except ValueError:              # of a slot
            continue
        assert not needed or name in ARGUMENTS, name


@pytest.mark.parametrize("name", sorted({*vars(plain()), *(
    name for name, value in inspect.getmembers(sp.csr_array)
    if isinstance(value, property) and value.fset is not None)}))
def test_no_attribute_can_be_set_or_deleted(name):
    matrix = frozen(plain())
    before = state(matrix)
    with pytest.raises(AttributeError, match=f"frozen: cannot set '{name}'.*copy"):
        setattr(matrix, name, getattr(matrix, name))
    with pytest.raises(AttributeError, match=f"frozen: cannot delete '{name}'"):
        delattr(matrix, name)
    assert state(matrix) == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("held", ["by_user", "by_item", "features"])
def test_what_a_fitted_model_holds_never_changes(held, change):
    ratings = Ratings(plain())
    model = ImplicitMF(2, n_epochs=1, random_state=0).fit(
        ratings, user_features=Features(plain(), "abcd"))
    def matrix():
        return model.user_features_.matrix if held == "features" else getattr(model.ratings_, held)
    before, scores = state(matrix()), model.predict([0, 1, 2], 1)
    with warnings.catch_warnings(), suppress(TypeError, AttributeError, ValueError):
        warnings.simplefilter("ignore")
        change(matrix())
    assert state(matrix()) == before
    np.testing.assert_array_equal(model.predict([0, 1, 2], 1), scores)


@pytest.mark.parametrize("change", ["new diagonal", "new cell", "smaller", "no zeros", "data"])
def test_a_refused_change_names_the_cure(change):
    with pytest.raises((TypeError, AttributeError), match=r"frozen.*copy\(\) makes one"):
        CHANGES[change](Ratings(plain()).by_user)


def test_a_copy_can_be_changed():
    matrix = Ratings(plain()).by_user
    mine = matrix.copy()
    mine.setdiag(9)
    mine.data *= 2
    assert type(mine) is sp.csr_array
    assert mine[1, 1] == 18
    assert matrix[1, 1] == 0


def test_in_place_arithmetic_makes_another_matrix():
    ratings = Ratings(plain())
    matrix = ratings.by_user
    matrix *= 3
    matrix /= 2
    matrix += matrix
    assert type(matrix) is sp.csr_array
    np.testing.assert_array_equal(matrix.toarray(), 3 * plain().toarray())
    np.testing.assert_array_equal(ratings.by_user.toarray(), plain().toarray())


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy,
                                    lambda given: pickle.loads(pickle.dumps(given))])
@pytest.mark.parametrize("holder", [
    lambda: Ratings(plain()), lambda: Ratings(plain(), weights=np.ones(5)).transposed,
    lambda: one_hot(["a", "b"])], ids=["ratings", "transposed", "features"])
def test_copies_of_what_holds_it_hold_an_equal_frozen_one(copied, holder):
    def matrix(given):
        return given.by_user if isinstance(given, Ratings) else given.matrix
    one = holder()
    twin = copied(one)
    assert type(matrix(twin)) is type(copied(matrix(one))) is FrozenCSR
    assert state(matrix(twin)) == state(matrix(one)) == state(copied(matrix(one)))


def test_ratings_of_an_earlier_pickle_are_frozen():
    old = {**vars(Ratings(plain())), "by_user": plain()}
    ratings = Ratings.__new__(Ratings)
    ratings.__setstate__(old)
    assert type(ratings.by_user) is FrozenCSR
    assert not ratings.by_user.data.flags.writeable


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy,
                                    lambda given: pickle.loads(pickle.dumps(given))])
def test_times_of_copies_are_read_only(copied):
    twin = copied(Ratings(plain(), times=np.arange(5.0)))
    with pytest.raises(ValueError, match="read-only"):
        twin.times[0] = 9


def test_rows_of_cells_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        Ratings(plain()).users_of_cells[0] = 2
