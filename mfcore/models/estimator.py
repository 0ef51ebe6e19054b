"""Hyper-parameters: stored untouched by `__init__`, read and set by name.

This is scikit-learn's contract, kept without importing it, so that its `clone` and
`GridSearchCV` work on every model here.
"""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from mfcore.validation import NotFittedError

Model = TypeVar("Model", bound="Estimator")


# Hyper-parameters that say what the learned numbers are: a fitted model has no use for others.
SHAPING = ("n_factors", "dtype", "loss", "bias", "item_bias", "fusion", "hidden", "n_hidden",
           "n_layers", "n_latent", "activation", "output", "orientation", "tied", "scale",
           "likelihood", "values")


class Estimator:
    """Hold hyper-parameters as attributes named like the arguments of `__init__`."""

    shaped_: dict[str, Any]

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

    def _forget(self) -> None:
        """Drop everything learned: names that end in an underscore."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _validate(self) -> None:
        """Raise for a hyper-parameter that is out of range."""
        raise NotImplementedError

    def _check_fitted(self) -> None:
        """Raise before a fit, and for a hyper-parameter that no longer goes with it."""
        if not hasattr(self, "ratings_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")
        self._validate()
        for name, value in self.shaped_.items():
            if getattr(self, name) != value:
                raise ValueError(f"{name} is {getattr(self, name)!r}, and the model was fitted "
                                 f"with {value!r}: set it back, or fit again")

    def _remember_shape(self) -> None:
        """Keep the hyper-parameters that say what the learned numbers are."""
        self.shaped_ = {name: getattr(self, name) for name in self._parameter_names()
                        if name in SHAPING}

    def _check_seen(self) -> None:
        """Raise for a model that was saved without its training ratings."""
        if not vars(self)["has_seen_"]:
            raise ValueError("this model was saved with seen=False: its training ratings, "
                             "which this needs, are not known any more")

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
