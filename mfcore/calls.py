"""Calls that do not fit a method, refused in the words of whoever made the model.

Python names the function that was defined, which may be a base class's or an inner one.  Here the
error names the class of the object, and the argument that may be meant:

    ImplicitMF.recommend() got an unexpected keyword argument 'n'; did you mean 'k'?
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

from mfcore import validation

# What arguments are called elsewhere, where the letters do not tell.
ELSEWHERE = {"n": "k", "top_k": "k", "topk": "k", "top_n": "k", "n_recommendations": "k",
             "limit": "k", "num": "k", "user_items": "ratings", "userid": "users",
             "itemid": "items", "filter_already_liked_items": "exclude_seen",
             "filter_items": "exclude_items", "factors": "n_factors", "rank": "n_factors",
             "regularization": "reg", "lam": "reg", "iterations": "n_epochs",
             "max_iter": "n_epochs", "epochs": "n_epochs", "seed": "random_state",
             "num_threads": "n_threads", "n_jobs": "n_threads"}
_UNKNOWN = re.compile(r"unexpected keyword argument '(\w+)'")
_CALLED = re.compile(r"^[^\s(]+\(\)")


def in_its_name(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method whose refusals of a call name the class of its object."""
    @functools.wraps(method)
    def called(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except TypeError as error:
            if not _is_of_the_call(error, error.__traceback__, kwargs):
                raise
            text = _sentence(type(self), method.__name__, str(error))
        raise TypeError(text)

    return called


def _is_of_the_call(error: TypeError, trace: TracebackType | None, kwargs: dict[str, Any]) -> bool:
    """Tell whether a method was never entered, or passed on a keyword that nobody takes."""
    entered = None if trace is None else trace.tb_next
    if entered is None:
        return True
    unknown = _UNKNOWN.search(str(error))
    return entered.tb_next is None and unknown is not None and unknown[1] in kwargs


def _sentence(made: type, name: str, text: str) -> str:
    owner = made.__name__ if name == "__init__" else f"{made.__name__}.{name}"
    text = _CALLED.sub(f"{owner}()", text)
    unknown = _UNKNOWN.search(text)
    if unknown is None:
        return text
    known, word = _parameters(made, name), unknown[1]
    usual = ELSEWHERE.get(word.lower())
    near = f"; did you mean {usual!r}?" if usual in known else validation.meant(word, known)
    return text[:unknown.end()] + near


def _parameters(made: type, name: str) -> list[str]:
    """Return the arguments of a method, those that it passes on to a base class among them."""
    found = [vars(base)[name] for base in made.__mro__ if name in vars(base)]
    return [each.name for method in found if inspect.isfunction(method)
            for each in inspect.signature(method).parameters.values()
            if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
            and each.name != "self"]
