"""What every model is: hyper-parameters, what its class supplies, and what a fit leaves.

Hyper-parameters are stored untouched by `__init__`.  This is scikit-learn's contract, kept
without importing it, so that its `clone` and `GridSearchCV` work on every model here.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any, ClassVar, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp

from mfcore import validation
from mfcore.calls import in_its_name
from mfcore.data.canonical import frozen
from mfcore.data.chunks import column_counts
from mfcore.data.ratings import Ratings
from mfcore.metrics.fitted import Fitted, NewRows
from mfcore.models import registry
from mfcore.models.inputs import aligned_ratings
from mfcore.models.settings import Rule, array_of, fitted, offers, part_of, setting
from mfcore.models.sides import Side, Sides
from mfcore.models.training import Start
from mfcore.objectives.biases import check_scale, mean_rating, rating_scale
from mfcore.persistence import NOT_SEEN
from mfcore.validation import NotFittedError

Model = TypeVar("Model", bound="Estimator")

# Hyper-parameters that decide what the learned numbers mean: they must stay as in the fit.
SHAPING = ("n_factors", "dtype", "loss", "bias", "item_bias", "fusion", "hidden", "n_hidden",
           "n_layers", "n_latent", "activation", "output", "orientation", "tied", "scale",
           "likelihood", "values", "similarity")

# What is not a fitted attribute of its own in a file.
APART = {"ratings_", "models_", "shaped_", "users_", "items_"}

# The values with which models were last found sound, so that a request need not look again.
_SOUND: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


def _all_the_same(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))


@offers
class Estimator:
    """Hold hyper-parameters as attributes named like the arguments of `__init__`.

    A class supplies besides: `check` (of its ratings), `begin` (where a fit begins, and what
    improves it: `training.Start`), `answers` (what is asked of it once it is fitted:
    `metrics.fitted.Fitted`), and `together`, checks of parameters that depend on each other.
    What it cannot do is a row of the table in registry.py.
    """

    n_epochs: int | str = setting(default=1, low=1)
    tol: float | None = setting(default=None, low=0)
    patience: int | None = setting(default=None, low=1)
    eval_metric: str | None = setting(default=None)
    dtype: str = setting(default="float32", among=("float32", "float64"))
    random_state: Any = setting(default=None, check=validation.random_generator)
    n_threads: int | None = setting(default=None)
    verbose: int | None = setting(default=None, check=validation.flag_or_count)
    refit: bool = setting(default=True)
    validation: float | None = setting(default=None, check=validation.share)    # (hides the module)

    shaped_: dict[str, Any] = fitted()
    ratings_: Ratings = fitted(doc="Ratings of the fit.")
    has_seen_: bool = fitted()
    users_: Any = fitted()
    items_: Any = fitted()
    global_mean_: float = fitted(doc="μ, from which scores are measured.")
    mean_rating_: float = fitted(doc="Mean of the training ratings, weighted.")
    rating_scale_: float = fitted(
        doc="Standard deviation of the training ratings, 1 where all are equal: the unit of "
            "penalties, starts and learning rates.  1 for rankings and labels.")
    rating_range_: tuple[float, float] = fitted(doc="Least and largest rating.")
    history_: list[dict[str, Any]] = fitted(
        doc="A dict per epoch: epoch, loss, seconds, and the metric of the eval_set.")

    rules: ClassVar[dict[str, Rule]] = {}
    together: ClassVar[tuple[Callable[[Any], None], ...]] = ()
    # Whether `predict` is on the scale of the ratings.
    predicts_ratings: ClassVar[Any] = True
    # What is known of users and items, and goes into a file.
    side_type: ClassVar[type[Side]] = Side
    # What becomes of a cell that is rated again: the later rating holds, or they add up.
    repeated: ClassVar[str] = "last"
    # Hyper-parameters with which a fit may go on from the checkpoint of others.
    may_change: ClassVar[tuple[str, ...]] = ("n_epochs", "n_threads", "verbose")
    # The axes of `weights_`, if it has any.
    weights_axes: ClassVar[str] = "weight"

    def __init_subclass__(cls) -> None:
        """Let the methods of a class refuse calls in the name of the class of the model."""
        super().__init_subclass__()
        for name, value in list(vars(cls).items()):
            if inspect.isfunction(value) and not name.startswith("_"):
                setattr(cls, name, in_its_name(value))

    # ----------------------------------------------------------- what a class supplies

    def check(self, ratings: Ratings) -> None:
        """Raise for ratings that this model cannot learn from."""

    def check_grown(self, ratings: Ratings) -> None:
        """Raise for ratings, old and new together, that a fitted model cannot hold."""
        self.check(ratings)

    def check_size(self, ratings: Ratings) -> None:
        """Raise DivergenceError for ratings, old and new, that vectors of the fit cannot hold."""
        data = ratings.by_user.data
        largest = max(abs(float(data.min(initial=0))), abs(float(data.max(initial=0))))
        if largest > max(map(abs, self.rating_range_)):         # (else the fit has seen its like)
            self._scale(ratings, mean_rating(ratings), largest)

    def _scale(self, ratings: Ratings, mean: float, largest: float) -> float:
        """Return σ of ratings, 1 where they are not predicted; raise for what vectors cannot hold.
        """
        if not self.predicts_ratings:
            return 1.0
        scale = rating_scale(ratings, mean)
        if "dtype" in self._parameter_names():                  # (means alone hold any size)
            check_scale(getattr(self, "rating_scale", None) or scale, largest)
        return scale

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator) -> Start:
        """Return where a fit begins, and what improves it."""
        raise NotImplementedError

    def answers(self) -> Fitted:
        """Return what is asked of the fitted model."""
        raise NotImplementedError

    def check_parts(self) -> None:
        """Raise ValueError for parts that no fit leaves: counts that are not of its ratings."""
        cells = self.ratings_.by_user
        known = np.diff(cells.indptr), column_counts(cells.indices, cells.shape[1])
        for side, counts in zip((self.users_, self.items_), known, strict=True):
            if side.counts.min(initial=0) < 0 or (self.has_seen_
                                                  and not np.array_equal(side.counts, counts)):
                raise ValueError(f"{side.name}_counts_ are not the numbers of ratings in the file")

    def widths(self) -> dict[str, int]:
        """Return the lengths that hyper-parameters give to axes of fitted arrays, by name."""
        n_factors = self.get_params(deep=False).get("n_factors")
        return {} if n_factors is None else {"factor": n_factors}

    def unaware(self, held: Ratings, **own: Any) -> dict[str, Any]:
        """Return what `fit` was given besides, as if it knew nothing of held-out ratings."""
        return own

    def lacks(self, ability: str) -> bool:
        """Return whether the model, as it is set, cannot do something: see registry.py."""
        return registry.lacks(type(self), ability)

    # ---------------------------------------------------------------- hyper-parameters

    def validate(self) -> None:
        """Raise for a hyper-parameter out of range, or for some that do not go together."""
        for name, (check, optional) in self.rules.items():
            value = getattr(self, name)
            if not (optional and value is None):
                check(name, value)
        for checked in self.together:
            checked(self)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the hyper-parameters by name; `deep` is there for scikit-learn."""
        return {name: getattr(self, name) for name in self._parameter_names()}

    def set_params(self: Model, **params: Any) -> Model:
        """Set hyper-parameters by name and return self; ValueError for an unknown one."""
        known = self._parameter_names()
        unknown = sorted(set(params) - set(known))
        if unknown:
            raise validation.unknown(type(self).__name__, unknown, known)
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
        params = [getattr(self, name) for name in self.rules]
        if not _all_the_same(params, _SOUND.get(self, ())):
            self.validate()
            _SOUND[self] = params
        for name, value in self.shaped_.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)!r}, and the model was fitted "
                                 f"with {value!r}: set it back, or fit again")

    def check_seen(self) -> None:
        """Raise for a model that was saved without its training ratings."""
        if not self.has_seen_:
            raise ValueError(NOT_SEEN)

    def remember(self, ratings: Ratings, sides: Sides, mean: float) -> None:
        """Drop what an earlier fit left, and keep what is known before the first epoch.

        Raises DivergenceError for ratings whose products vectors cannot hold.
        """
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        self.remember_shape()
        self.ratings_, self.has_seen_, self.history_ = ratings, True, []
        data = ratings.by_user.data
        self.rating_range_ = (float(data.min()), float(data.max()))
        self.mean_rating_ = mean
        self.users_, self.items_ = sides
        self.rating_scale_ = self._scale(ratings, mean, max(map(abs, self.rating_range_)))

    def remember_shape(self) -> None:
        """Keep the hyper-parameters that say what the learned numbers are."""
        self.shaped_ = {name: getattr(self, name) for name in self._parameter_names()
                        if name in SHAPING}

    def fitted_attributes(self) -> dict[str, Any]:
        """Return what a fit left, by name, without ratings and models inside."""
        stale = {f"{side.name}_stale_": side.stale for side in (self.users_, self.items_)
                 if side.stale is not None}
        return {**self._outside_sides(), **self.users_.named(), **self.items_.named(), **stale}

    def _outside_sides(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items()
                if name.endswith("_") and name not in APART}

    def seal(self) -> None:
        """Let nobody take from a fitted model the memory that kernels are about to read.

        A matrix is frozen.  Of an array there is a view, which cannot be resized; it stays
        writable, because kernels would be compiled once more for arrays that are not.
        """
        self.users_.sealed = self.items_.sealed = True
        for name, value in self._outside_sides().items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value.view())
            elif isinstance(value, sp.csr_array):
                setattr(self, name, frozen(sp.csr_array(value)))

    user_factors_ = array_of("users_", "factors", "Vectors of the users, shape (n_users, k).")
    item_factors_ = array_of("items_", "factors", "Vectors of the items, shape (n_items, k).")
    user_bias_ = array_of("users_", "bias", "Biases of the users, shape (n_users,), or None.")
    item_bias_ = array_of("items_", "bias", "Biases of the items, shape (n_items,), or None.")
    user_counts_ = array_of("users_", "counts", "Ratings of each user, shape (n_users,).")
    item_counts_ = array_of("items_", "counts", "Ratings of each item, shape (n_items,).")
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

    # ------------------------------------------------------------------------ new rows

    def new_rows(self, ratings: Any, user_features: Any, n_rows: int | None = None,
                 unknown: str = "raise") -> NewRows | None:
        """Return what is given of new users, in the model's columns; None for nothing.

        Parameters
        ----------
        ratings, user_features
            As in `recommend`.
        n_rows : int or None
            How many rows features must have; None: as many as the ratings.
        unknown : {"raise", "ignore"}
            What to do with ratings of items that the model does not know.
        """
        if ratings is None and user_features is None:
            return None
        aligned = None if ratings is None else aligned_ratings(ratings, self, unknown)
        if user_features is None:
            return NewRows(aligned, None)
        if "features" not in self.side_type.parts:
            raise NotImplementedError(registry.sentence(type(self), "new_user_features"))
        n_rows = n_rows if aligned is None else aligned.shape[0]
        return NewRows(aligned, self.users_.aligned(user_features, n_rows))

    # --------------------------------------------------------------------- for others

    def __copy__(self: Model) -> Model:
        made = type(self).__new__(type(self))
        vars(made).update(vars(self))
        vars(made).update({name: copy(side) for name, side in vars(self).items()
                           if name in ("users_", "items_")})
        return made

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "ratings_")

    def __sklearn_tags__(self) -> Any:
        """Return scikit-learn's tags; only scikit-learn calls this, so it can be imported."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False),
                    input_tags=InputTags(sparse=True))

    def get_metadata_routing(self) -> Any:
        """Return what `fit` asks of scikit-learn's tools; only they call this."""
        from sklearn.utils.metadata_routing import MetadataRequest

        found = vars(self).get("_metadata_request")         # (a name that `clone` copies)
        if found is None:
            found = MetadataRequest(owner=type(self).__name__)
            found.fit.add_request(param="sample_weight", alias=None)
        return found

    def set_fit_request(self: Model, **asked: bool | str | None) -> Model:
        """Say which arguments of `fit` scikit-learn's tools pass on, and return self.

        Parameters
        ----------
        **asked
            `sample_weight`, `item_features`, ...: True, or the name under which they come.
        """
        request = self.get_metadata_routing()
        for name, alias in asked.items():
            request.fit.add_request(param=name, alias=alias)
        self._metadata_request = request
        return self

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        changed = [f"{name}={value!r}" for name, value in self.get_params(deep=False).items()
                   if not _is(value, defaults[name].default)]
        return f"{type(self).__name__}({', '.join(changed)})"


def _is(value: Any, default: Any) -> bool:
    """Return whether a parameter has its default; an array, or a column of a frame, never has."""
    same = value == default
    return value is default or (isinstance(same, (bool, np.bool_)) and bool(same))
