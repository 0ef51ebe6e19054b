"""Make the model that a command line asks for, and find the segments of its users."""

from __future__ import annotations

import ast
import inspect
import re
from argparse import Namespace
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mfcore
from mfcore import validation
from mfcore.cli.inputs import ids_or_rows, read_rows
from mfcore.cli.output import shows_progress
from mfcore.data.ids import integer_of
from mfcore.models.registry import MODELS

if TYPE_CHECKING:
    from mfcore.data.dataset import Dataset
    from mfcore.data.ratings import Ratings
    from mfcore.models.recommender import Recommender

CLASSES = {entry.command: name for name, entry in MODELS.items()}
SEGMENTED = MODELS["Segmented"].command
ESTIMATORS = tuple(command for command in CLASSES if command != SEGMENTED)
FIRST = ESTIMATORS[0]                   # fitted if no model is named
# Each option of the command line, and the parameter that it sets.
PARAMETERS = {"factors": "n_factors", "reg": "reg", "bias": "bias", "epochs": "n_epochs",
              "threads": "n_threads"}
WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
Parameters = Mapping[str, inspect.Parameter]


def command_of(text: str) -> str:
    """Return the command-line name of a model, which may be given by its class; else the text."""
    found = {name.lower(): entry.command for name, entry in MODELS.items()}
    return found.get(text.lower(), text.lower())


# ----------------------------------------------------------------------------- a new model


def new_model(arguments: Namespace) -> Recommender:
    """Return an unfitted model with the parameters of the command line.

    Raises ValueError for a parameter that its class does not have.  Ends with a usage error
    where --by is missing, or options of segments are out of place.
    """
    if arguments.model != SEGMENTED:
        for option in ("estimator", "by"):
            if getattr(arguments, option) is not None:
                arguments.usage_error(f"--{option} goes with --model {SEGMENTED}")
        made: Any = getattr(mfcore, CLASSES[arguments.model])
        model: Recommender = made(**_params(arguments, made.__name__, parameters_of(made)))
        return model
    if arguments.by is None:
        arguments.usage_error(f"--model {SEGMENTED} needs --by FIELD|FILE, the segments of users")
    made = getattr(mfcore, CLASSES[arguments.estimator or FIRST])
    own = {name: each for name, each in parameters_of(mfcore.Segmented).items()
           if name not in ("estimator", "by")}
    params = _params(arguments, f"Segmented({made.__name__})", {**own, **parameters_of(made)})
    outer = {name: params.pop(name) for name in own if name in params}
    return mfcore.Segmented(made(**params), arguments.by, **outer)


def named_model(command: str, settings: Sequence[str], seed: int) -> Recommender:
    """Return an unfitted model by its name, with settings such as "n_factors=32".

    Raises ValueError for a parameter that its class does not have.
    """
    made: Any = getattr(mfcore, CLASSES[command])
    known = parameters_of(made)
    params = {"random_state": seed} if "random_state" in known else {}
    params |= _settings(f"what follows {command}:", settings, made.__name__, known)
    model: Recommender = made(**params)
    return model


def parameters_of(made: Any) -> Parameters:
    """Return the parameters of a class by name."""
    return inspect.signature(made).parameters


def _params(arguments: Namespace, owner: str, known: Parameters) -> dict[str, Any]:
    """Return the parameters that the options and --set name, with a seed and a bar."""
    params = {name: value for name, value in (
        ("random_state", arguments.seed), ("verbose", int(shows_progress(arguments.quiet))))
        if name in known}
    for word, name in PARAMETERS.items():
        if (value := getattr(arguments, word)) is not None:
            if name not in known:
                raise validation.unknown(owner, [name], known)
            params[name] = None if name == "bias" and value == "none" else value
    given = [text.removeprefix("estimator__") if arguments.model == SEGMENTED else text
             for text in arguments.set]
    return {**params, **_settings("--set", given, owner, known)}


def _settings(option: str, texts: Sequence[str], owner: str, known: Parameters) -> dict[str, Any]:
    """Return parameters of texts such as "n_factors=32"."""
    words = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"{option} must be NAME=VALUE, got {text!r}")
        words[name] = value
    if unknown := [name for name in words if name not in known]:
        raise validation.unknown(owner, unknown, known)
    return {name: value_of(value, known[name]) for name, value in words.items()}


def value_of(text: str, parameter: inspect.Parameter) -> Any:
    """Return the value that a word of the command line means for a parameter, by its types.

    A word that fits none of them is returned as it reads: the model then says what it wants.
    """
    kinds = set(re.split(r"\s*\|\s*", str(parameter.annotation)))
    if "None" in kinds and text.lower() == "none" and (
            text == "None" or parameter.default != "none"):
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = text
    if "bool" in kinds:
        return WORDS.get(text.lower(), value)
    if any(kind.startswith("tuple") for kind in kinds) and not isinstance(value, str):
        return tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if kinds <= {"str", "None"} and not isinstance(value, str):
        return text                     # a word that looks like a number
    if "int" in kinds and isinstance(value, float) and value.is_integer():
        return int(value)               # 1e3
    if "float" in kinds and isinstance(value, str):
        with suppress(ValueError):
            return float(value)         # nan and inf, which are no literals
    return value


def space_of(model: Recommender, texts: list[str]) -> dict[str, Any] | None:
    """Return the space that words such as reg=0.1:10 and alpha=1,2,5 name; None for no words.

    Raises ValueError for a word of another form.
    """
    from mfcore.tuning.spaces import LogRange, Range

    space: dict[str, Any] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        low, colon, high = values.partition(":")
        try:
            if colon:
                ends = float(low), float(high)
                space[name] = LogRange(*ends) if ends[0] > 0 else Range(*ends)
            elif equals and values:
                known = parameters_of(type(model)).get(name)
                space[name] = [value if known is None else value_of(value, known)
                               for value in values.split(",")]
        except ValueError:
            space.pop(name, None)
        if not (name.isidentifier() and name in space):
            raise ValueError(f"--space must be NAME=LOW:HIGH or NAME=VALUE,VALUE,..., got {text!r}")
    return space or None


# -------------------------------------------------------------------------------- segments


def segment(model: Recommender, data: Dataset, encoding: str, *, by_user: bool = False
            ) -> dict[str, Any]:
    """Find the segments that --by names; return what `fit` takes besides the ratings.

    With `by_user`, a field becomes the labels of the users, so that `fit` needs no features.

    Raises ValueError for anything but a field of the user features or a file of labels.
    """
    if not isinstance(model, mfcore.Segmented):
        return {}
    name = str(model.by)
    if name not in _fields(data):
        model.by = _labels(name, data, encoding)
    elif by_user:
        from mfcore.models.segments.routing import labels_of

        found = zip(_users(data.ratings), labels_of(name, data.ratings, data.user_features),
                    strict=True)
        model.by = {user: label for user, label in found if label is not None}
    else:
        return {"user_features": data.user_features}
    return {}


def _fields(data: Dataset) -> list[str]:
    names = () if data.user_features is None else data.user_features.names
    return list(dict.fromkeys(name.partition("=")[0] for name in names if "=" in name))


def _users(ratings: Ratings) -> list[Any]:
    return list(ids_or_rows(ratings.user_ids, ratings.shape[0]).tolist())


def _labels(name: str, data: Dataset, encoding: str) -> Any:
    """Return the labels that a file holds, by user or one per row."""
    if not Path(name).exists():
        fields = ", ".join(_fields(data)) or "none here"
        raise ValueError(f"--by must be a field of the user features ({fields}) or a file of "
                         f"labels, got {name!r}")
    rows = [[cell.strip() for cell in row] for row in read_rows(Path(name), encoding) if any(row)]
    widths = {len(row) for row in rows}
    if widths == {1}:
        return [row[0] for row in rows]
    if not widths or min(widths) < 2:
        raise ValueError(f"{name} must hold a user and a label on every line, or a label on "
                         f"every line")
    return _by_user(name, rows, data.ratings)


def _by_user(name: str, rows: list[list[str]], ratings: Ratings) -> dict[Any, str]:
    users = _users(ratings)
    spelled = {str(user): user for user in users}
    whole = ratings.user_ids is None or ratings.user_ids.dtype != object
    if whole and not _is_number(rows[0][0]):
        rows = rows[1:]                 # a header
    labels: dict[Any, str] = {}
    for word, label, *_ in rows:
        number = integer_of(word)
        if whole and number is None:
            raise ValueError(f"users of these ratings are whole numbers, {name} has {word!r}")
        user = number if whole else spelled.get(word, word)
        if label and labels.setdefault(user, label) != label:
            raise ValueError(f"{name} puts user {user!r} into {labels[user]!r} and {label!r}")
    if labels.keys().isdisjoint(users):
        raise ValueError(f"{name} has a label for none of the users of the ratings")
    return labels


def _is_number(word: str) -> bool:
    return word.lstrip("-").isdecimal()


# ------------------------------------------------------------------------ settings of a run


def set_running(model: Recommender, **settings: int | None) -> None:
    """Set what belongs to a run and not to a model (n_threads, verbose), in its parts as well."""
    parts = [model]
    if isinstance(model, mfcore.Segmented):
        parts = [model.estimator, *getattr(model, "models_", ())]
    for part in parts:
        part.set_params(**settings)
