"""Hyper-parameters, read and set by name; and what a fit leaves.

Hyper-parameters are stored untouched by `__init__`.  This is scikit-learn's contract, kept
without importing it, so that its `clone` and `GridSearchCV` work on every model here.

    @settings("n_threads", "verbose")
    class Model(Recommender):
        n_factors: int = field(default=64, kw_only=False)      # Model(64)
        reg: float = 1.0                                       # Model(reg=1.0)
        weights_: np.ndarray = field(init=False)               # what a fit leaves
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from mfcore import validation
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Fitted
from mfcore.models import registry
from mfcore.models.sides import Side, Sides, part_of
from mfcore.models.training import Start
from mfcore.validation import NotFittedError

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:
    def dataclass_transform(**_: Any) -> Callable[[Any], Any]:
        """Tell type checkers what `settings` does; Python 3.10 has no such function."""
        return lambda decorated: decorated

Model = TypeVar("Model", bound="Estimator")

# Hyper-parameters that say what the learned numbers are: a fitted model has no use for others.
SHAPING = ("n_factors", "dtype", "loss", "bias", "item_bias", "fusion", "hidden", "n_hidden",
           "n_layers", "n_latent", "activation", "output", "orientation", "tied", "scale",
           "likelihood", "values")
# The settings of models that learn by epochs from a random start.
TRAINED = ("patience", "eval_metric", "dtype", "random_state", "n_threads", "verbose")


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def settings(*shared: str) -> Callable[[type[Model]], type[Model]]:
    """Make the annotated names of a class its hyper-parameters.

    Parameters
    ----------
    *shared : str
        Names that a base class annotates, with the defaults there: they come last.
    """
    def decorated(made: type[Model]) -> type[Model]:
        known = {name: kind for base in made.__mro__[1:]
                 for name, kind in inspect.get_annotations(base).items()}
        made.__annotations__ = {**inspect.get_annotations(made),
                                **{name: known[name] for name in shared}}
        return dataclass(made, repr=False, eq=False, kw_only=True, match_args=False)

    return decorated


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
def shared(base: type[Any]) -> type[Any]:
    """Let a base class annotate hyper-parameters: those that `settings` names are its heirs'."""
    for name in [name for name, value in vars(base).items() if isinstance(value, Field)]:
        delattr(base, name)
    return base


@shared
class Estimator:
    """Hold hyper-parameters as attributes named like the arguments of `__init__`.

    A class supplies besides: `validate`, `check` (of its ratings), `begin` (where a fit begins,
    and what improves it: `training.Start`), `answers` (what is asked of it once it is fitted:
    `metrics.fitted.Fitted`).  What it cannot do is a row of the table in registry.py.
    """

    # Settings of models that learn by epochs, with their defaults.
    n_epochs: int = 1
    tol: float | None = None
    patience: int | None = None
    eval_metric: str | None = None
    dtype: str = "float32"
    random_state: Any = None
    n_threads: int | None = None
    verbose: int = 0

    shaped_: dict[str, Any] = field(init=False)
    ratings_: Ratings = field(init=False)
    has_seen_: bool = field(init=False)
    users_: Any = field(init=False)
    items_: Any = field(init=False)
    global_mean_: float = field(init=False)
    mean_rating_: float = field(init=False)
    rating_range_: tuple[float, float] = field(init=False)
    history_: list[dict[str, Any]] = field(init=False)

    # Whether `predict` is on the scale of the ratings.
    predicts_ratings: ClassVar[Any] = True
    # What is known of users and items, and goes into a file.
    side_type: ClassVar[type[Side]] = Side
    # Hyper-parameters with which a fit may go on from the checkpoint of others.
    may_change: ClassVar[tuple[str, ...]] = ("n_epochs", "n_threads", "verbose")
    # The axes of `weights_`, if it has any.
    weights_axes: ClassVar[str] = "weight"

    # ----------------------------------------------------------- what a class supplies

    def validate(self) -> None:
        """Raise for a hyper-parameter that is out of range."""
        raise NotImplementedError

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings that this model cannot learn from."""

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        raise NotImplementedError

    def answers(self) -> Fitted:
        """Return what is asked of the fitted model."""
        raise NotImplementedError

    def lacks(self, ability: str) -> bool:
        """Return whether the model, as it is set, cannot do something: see registry.py."""
        return registry.lacks(type(self), ability)

    # ---------------------------------------------------------------- hyper-parameters

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters by name; `deep` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self: Model, **params: Any) -> Model:
        """Set hyper-parameters by name and return self; ValueError for an unknown one."""
        known = self._parameter_names()
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise ValueError(f"{type(self).__name__} has no parameter {unknown[0]!r}; "
                             f"it has {', '.join(known)}")
        for name, value in params.items():
            setattr(self, name, value)
        return self

    @classmethod
    def _parameter_names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def require(self, ability: str) -> None:
        """Raise NotImplementedError for what the model cannot do."""
        if self.lacks(ability):
            raise NotImplementedError(registry.sentence(type(self), ability))

    # ------------------------------------------------------------- what a fit leaves

    def check_fitted(self) -> None:
        """Raise before a fit, and for a hyper-parameter that no longer goes with it."""
        if not hasattr(self, "ratings_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")
        self.validate()
        for name, value in self.shaped_.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)!r}, and the model was fitted "
                                 f"with {value!r}: set it back, or fit again")

    def check_seen(self) -> None:
        """Raise for a model that was saved without its training ratings."""
        if not self.has_seen_:
            raise ValueError("this model was saved with seen=False: its training ratings, "
                             "which this needs, are not known any more")

    def forget(self) -> None:
        """Drop everything learned: names that end in an underscore."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def remember_shape(self) -> None:
        """Keep the hyper-parameters that say what the learned numbers are."""
        self.shaped_ = {name: getattr(self, name) for name in self._parameter_names()
                        if name in SHAPING}

    user_factors_ = part_of("users_", "factors", "Vectors of the users, shape (n_users, k).")
    item_factors_ = part_of("items_", "factors", "Vectors of the items, shape (n_items, k).")
    user_bias_ = part_of("users_", "bias", "Biases of the users, shape (n_users,), or None.")
    item_bias_ = part_of("items_", "bias", "Biases of the items, shape (n_items,), or None.")
    user_counts_ = part_of("users_", "counts", "Ratings of each user, shape (n_users,).")
    item_counts_ = part_of("items_", "counts", "Ratings of each item, shape (n_items,).")
    user_features_ = part_of("users_", "features", "Features of the users, or None.")
    item_features_ = part_of("items_", "features", "Features of the items, or None.")
    user_feature_names_ = part_of("users_", "feature_names", "Names of the users' features.")
    item_feature_names_ = part_of("items_", "feature_names", "Names of the items' features.")
    user_feature_mean_ = part_of("users_", "feature_mean", "Mean row of the users' features.")
    item_feature_mean_ = part_of("items_", "feature_mean", "Mean row of the items' features.")
    user_feature_factors_ = part_of("users_", "feature_factors", "Vectors of users' features.")
    item_feature_factors_ = part_of("items_", "feature_factors", "Vectors of items' features.")
    user_feature_bias_ = part_of("users_", "feature_bias", "Biases of the users' features.")
    item_feature_bias_ = part_of("items_", "feature_bias", "Biases of the items' features.")

    @property
    def n_users_(self) -> int:
        """Number of users of the fit."""
        return self.ratings_.shape[0]

    @property
    def n_items_(self) -> int:
        """Number of items of the fit."""
        return self.ratings_.shape[1]

    @property
    def user_ids_(self) -> np.ndarray | None:
        """Names of the users, or None where they are row numbers."""
        return self.ratings_.user_ids

    @property
    def item_ids_(self) -> np.ndarray | None:
        """Names of the items, or None where they are column numbers."""
        return self.ratings_.item_ids

    @property
    def n_epochs_(self) -> int:
        """Number of epochs that ran."""
        return len(self.history_)

    # --------------------------------------------------------------------- for others

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "ratings_")

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags; only scikit-learn calls this, so it can be imported."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False),
                    input_tags=InputTags(sparse=True))

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [f"{name}={value!r}" for name, value in self.get_params(deep=False).items()
                   if value is not defaults[name].default and value != defaults[name].default]
        return f"{type(self).__name__}({', '.join(changed)})"


# -------------------------------------------------- checks of what several models share

def check_factors(model: Any) -> None:
    """Raise for a number of factors, a start, or a setting of `check_epochs` out of range."""
    validation.integer("n_factors", model.n_factors, low=1)
    validation.real("init_scale", model.init_scale, low=0, high=1e3, above=0)
    check_epochs(model)


def check_epochs(model: Any) -> None:
    """Raise for a number of epochs, a stop, a type or a seed out of range."""
    validation.integer("n_epochs", model.n_epochs, low=1)
    if model.tol is not None:
        validation.real("tol", model.tol, low=0)
    if model.patience is not None:
        validation.integer("patience", model.patience, low=1)
    validation.choice("dtype", model.dtype, ("float32", "float64"))
    validation.random_generator("random_state", model.random_state)
    if not isinstance(model.verbose, bool):
        validation.integer("verbose", model.verbose)


def check_widths(hidden: Any) -> None:
    """Raise unless `hidden` is a tuple of widths."""
    if not isinstance(hidden, (tuple, list)):
        raise TypeError(f"hidden must be a tuple of widths, got {hidden!r}")
    for width in hidden:
        validation.integer("hidden", width, low=1)
