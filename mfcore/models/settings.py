"""Hyper-parameters as annotated names of a class, each with its default and its range.

    @settings("n_threads", "verbose")
    class Model(Recommender):
        n_factors: int = setting(default=64, low=1, kw_only=False)     # Model(64)
        reg: float = setting(default=1.0, low=0)                       # Model(reg=1.0)
        solver: str = setting(default="cg", among=("cg", "cholesky"))
        weights_: np.ndarray = fitted(doc="All numbers of the network.")

`__init__` stores them untouched, in this order; `Estimator.validate` holds them to their ranges.
What a fit leaves, of this class and of those above it, is listed in the docstring.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, Field, dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np

from mfcore import validation
from mfcore.calls import in_its_name
from mfcore.data.canonical import read_only

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:
    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        """Tell type checkers what `settings` does; Python 3.10 has no such function."""
        return lambda decorated: decorated

Made = TypeVar("Made", bound=type)
Check = Callable[[str, Any], Any]

# The settings of models that learn by epochs from a random start.
TRAINED = ("tol", "patience", "validation", "refit", "eval_metric", "dtype", "random_state",
           "n_threads", "verbose")


class Rule(NamedTuple):
    """What a value must satisfy; `optional`: None does, too."""

    check: Check
    optional: bool


def setting(*, default: Any = MISSING, kw_only: bool = True, among: Collection[Any] | None = None,
            check: Check | None = None, **limits: float) -> Any:
    """Return a hyper-parameter.

    Parameters
    ----------
    default : object
        Left out: it must be given.
    kw_only : bool
        Whether it is given by name alone.
    among : collection, or None
        Names that it may have; for numbers, names that it may have instead.
    check : callable, or None
        check(name, value) raises for a bad value, in place of what the annotation asks for.
    **limits
        low, high, above: as in `validation.real` and `validation.integer`.
    """
    return field(default=default, kw_only=kw_only,
                 metadata={"among": among, "check": check, "limits": limits})


def fitted(*, doc: str = "", init: Literal[False] = False) -> Any:
    """Return what is no hyper-parameter: an attribute that a fit leaves, listed if described."""
    return field(init=init, metadata={"doc": doc})


def _rule(kind: str, among: Any, check: Check | None, limits: dict[str, Any]) -> Rule | None:
    """Return the rule of a parameter of an annotated kind, such as "float | None"."""
    kinds = kind.split(" | ")
    optional = "None" in kinds and None not in (among or ())
    if check is None and "bool" in kinds:
        check = validation.boolean
    elif check is None and "float" in kinds and among:
        check = partial(validation.real_or_choice, known=among, **limits)
    elif check is None and "int" in kinds and among:
        check = partial(validation.integer_or_choice, known=among, **limits)
    elif check is None and among:
        check = partial(validation.choice, known=among)
    elif check is None and limits:
        check = partial(validation.integer if "int" in kinds else validation.real, **limits)
    return None if check is None else Rule(check, optional)


@dataclass_transform(kw_only_default=True, eq_default=False,
                     field_specifiers=(field, setting, fitted))
def settings(*shared: str) -> Callable[[Made], Made]:
    """Make the annotated names of a class its hyper-parameters.

    Parameters
    ----------
    *shared : str
        Names that a base class offers (see `offers`): they come last.
    """
    def decorated(made: Any) -> Any:
        own, offered = inspect.get_annotations(made), made.offered
        for name in shared:
            if name not in own:
                own[name] = offered[name][0]
                setattr(made, name, offered[name][1])
        made.__annotations__ = own
        made.rules = {name: rule for name, kind in own.items()
                      if (rule := _rule_of(kind, vars(made).get(name)))}
        _leave_out(made)
        made.__doc__ = _with_attributes(made)
        made = dataclass(made, repr=False, eq=False, kw_only=True, match_args=False)
        made.__init__ = in_its_name(made.__init__)
        return made

    return decorated


def _with_attributes(made: Any) -> str:
    """Return the docstring of a class with the attributes that a fit leaves, before its notes."""
    text = inspect.cleandoc(made.__doc__ or "")
    if "\nAttributes\n---" in text:
        return text
    listed = "".join(f"{name}\n    {doc}\n" for name, doc in _attributes(made).items())
    places = [text.find(f"\n{head}\n---") for head in ("Notes", "References")]
    place = min((each for each in places if each >= 0), default=len(text))
    head = text[:place].rstrip()
    return f"{head}\n\nAttributes\n----------\n{listed}{text[place:]}"


def _attributes(made: Any) -> dict[str, str]:
    """Return what a fit of a class leaves, with what is said of it."""
    found: dict[str, str] = {}
    for base in made.__mro__[::-1]:
        found.update({name: member.__doc__ or "" for name, member in vars(base).items()
                      if isinstance(member, property) and name.endswith("_")})
        found.update(vars(base).get("left") or _left(base))
    return {name: doc for name, doc in found.items()
            if doc and not isinstance(getattr(made, name, None), Absent)}


def _leave_out(made: Any) -> None:
    """Take from a class the parts of sides that its sides do not have."""
    known = {name for side in ("user", "item") for name in made.side_type(side).named()}
    for name in dir(made):
        if name.startswith(("user_", "item_")) and not name.endswith("_ids_") \
                and isinstance(getattr(made, name), property) \
                and name not in known and "offered" in vars(_home(made, name)):
            setattr(made, name, Absent(name))


def _home(made: type, name: str) -> type:
    """Return the class that a name is taken from."""
    return next(base for base in made.__mro__ if name in vars(base))


class Absent(property):
    """A part that the sides of a class do not have: for its instances, no attribute at all."""

    def __init__(self, name: str) -> None:
        def read(model: Any) -> Any:
            raise AttributeError(f"{type(model).__name__!r} object has no attribute {name!r}")

        super().__init__(read)


def _left(base: type) -> dict[str, str]:
    """Return what a fit leaves by the annotations of a class, with what is said of it."""
    return {name: each.metadata.get("doc", "") for name, each in vars(base).items()
            if isinstance(each, Field)}


def _rule_of(kind: str, given: Any) -> Rule | None:
    known = given.metadata if isinstance(given, Field) else {}
    if isinstance(given, Field) and not given.init:
        return None
    return _rule(kind, known.get("among"), known.get("check"), known.get("limits", {}))


@dataclass_transform(kw_only_default=True, eq_default=False,
                     field_specifiers=(field, setting, fitted))
def offers(base: Any) -> Any:
    """Let a base class offer hyper-parameters to those below it, by `settings`.

    A class that does not take one has its default.
    """
    base.offered, base.left = {}, _left(base)
    for name, kind in inspect.get_annotations(base).items():
        given = vars(base).get(name)
        if isinstance(given, Field):
            delattr(base, name)
            if given.default is not MISSING:
                base.offered[name] = kind, given
                setattr(base, name, given.default)
    return base


# ------------------------------------------------------------- attributes of a model's sides

def part_of(side: str, name: str, doc: str) -> property:
    """Return a property of a model that is a part of one of its sides; see `seal`."""
    held, own = attrgetter(f"{side}.{name}"), attrgetter(side)

    def read(model: Any) -> Any:
        value = held(model)
        return value.view() if own(model).sealed and isinstance(value, np.ndarray) else value

    def write(model: Any, value: Any) -> None:
        if own(model).sealed and isinstance(value, np.ndarray):
            value = _in_place_of(f"{side[:-2]}_{name}_", value, held(model))
        setattr(own(model), name, value)

    return property(read, write, doc=doc)


def array_of(side: str, name: str, doc: str) -> property:
    """Return a property that is an array of one of a model's sides, read-only after the fit.

    Sums over it are kept then, and would not follow a change in place.
    """
    held, own = attrgetter(f"{side}.{name}"), attrgetter(side)

    def read(model: Any) -> Any:
        value = held(model)
        shown = value is None or not own(model).sealed or not value.flags.writeable
        return value if shown else read_only(value.view())

    def write(model: Any, value: Any) -> None:
        if own(model).sealed and value is not None:
            value = _in_place_of(f"{side[:-2]}_{name}_", value, held(model))
        setattr(own(model), name, value)

    return property(read, write, doc=doc)


def _in_place_of(name: str, value: Any, held: np.ndarray | None) -> np.ndarray:
    """Return a copy of an array that takes the place of a fitted one, of the same shape."""
    array = np.array(validation.numeric(name, value))
    if held is not None and array.shape != held.shape:
        raise ValueError(f"{name} must have shape {held.shape}, as the fit left it, got "
                         f"{array.shape}")
    return array
