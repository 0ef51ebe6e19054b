"""Compile the kernels of models before they are needed: in the build of an image, at a start.

Numba compiles a kernel when it is first called with arguments of some types, and keeps it on disk
(compiled.py).  So this calls what users call, on small ratings: each model is fitted to whole
stars and to ratings that need 64 bits, with weights and features where it takes them; it is saved,
loaded, asked for everything that it answers, and updated; and ratings are read.  What that used is
noted in a file next to the kernels, from which `mfcore info --check` tells whether all are there.
"""

from __future__ import annotations

import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore import compiled, validation
from mfcore.atomic import replacing
from mfcore.data.features import multi_hot
from mfcore.data.ratings import Ratings
from mfcore.data.readers import read_ratings
from mfcore.data.synthetic import planted
from mfcore.metrics.evaluate import evaluate
from mfcore.metrics.topk import GROUP_SIZE, GROUPS, LONG_LIST, best_of_block
from mfcore.models import registry
from mfcore.models.storage import load
from mfcore.progress import alone, progress_bar
from mfcore.solvers.als import sides_as_large
from mfcore.solvers.sample import LEAST_CELLS

NOTE = "kernels.json"
MODELS = tuple(name for name in registry.MODELS if name != "Segmented")    # (which fits the others)
SIZES: dict[str, Any] = {"n_epochs": 2, "burn_in": 1, "keep": 1}


class Compiled(NamedTuple):
    """What `compile_kernels` did.

    Attributes
    ----------
    models : list of str
        Whose kernels are ready.
    n_kernels, n_new : int
        Kernels that they use, and how many of them were compiled now.
    folder : str
        Where they are kept.
    seconds : float
    """

    models: list[str]
    n_kernels: int
    n_new: int
    folder: str
    seconds: float


def compile_kernels(models: Sequence[str] | str | None = None, *, verbose: int | None = None
                    ) -> Compiled:
    """Compile what models need, and keep it on disk for all processes to come.

    Run it when an image is built, as the user that will run it or with NUMBA_CACHE_DIR set to a
    folder that comes with the image; processes may then find the folder read-only.  The
    processor must be of the same kind.

    Parameters
    ----------
    models : names of classes, one name, or None
        None: all models.
    verbose : int or None
        1 shows a progress bar, 0 none; None: at a terminal and in a notebook, after half a second.

    Returns
    -------
    Compiled
        Whose kernels are ready, how many were compiled now, and where they are kept.

    Raises
    ------
    ValueError
        For the name of something else.
    OSError
        If no folder takes the kernels; it names those that were tried.
    """
    names = list(MODELS) if models is None else \
        [models] if isinstance(models, str) else validation.iterable("models", models)
    for name in names:
        validation.choice("models", name, MODELS)
    start, before, tasks = time.perf_counter(), _all_ready(), list(_tasks(names))
    with progress_bar(verbose, total=len(tasks), desc="compile") as bar, alone():
        for name, task in tasks:
            bar.set_postfix_str(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                task()
            bar.update(1)
    used, ready = set(compiled.USED), compiled.ready()
    missing = used - set().union(*ready.values())
    if missing:
        raise OSError(f"{len(missing)} of {len(used)} compiled kernels could not be kept in "
                      f"{' or '.join(ready)}: make room there, let this user write there, or set "
                      f"NUMBA_CACHE_DIR to another folder")
    folder = next(folder for folder, kernels in ready.items() if kernels & used)
    _note(Path(folder), names, used)
    return Compiled(names, len(used), len(used - before), folder, time.perf_counter() - start)


def noted() -> tuple[list[str], set[str]] | None:
    """Return the models of the last `compile_kernels` and those of its kernels that are missing.

    None where it was never called for this version and this processor.
    """
    for folder in compiled.folders():
        with suppress(OSError, ValueError, KeyError, TypeError):
            known = json.loads((folder / NOTE).read_text())
            if known["machine"] == compiled.machine():
                return known["models"], set(known["kernels"]) - _all_ready()
    return None


def _note(folder: Path, names: list[str], used: set[str]) -> None:
    known = noted()
    if known is not None:
        names = [name for name in MODELS if name in {*names, *known[0]}]
        with suppress(OSError, ValueError, KeyError):
            used = used | set(json.loads((folder / NOTE).read_text())["kernels"])
    with replacing(folder / NOTE) as file:
        file.write(json.dumps({"machine": compiled.machine(), "models": names,
                               "kernels": sorted(used)}).encode())


def _all_ready() -> set[str]:
    return set().union(*compiled.ready().values())


# ------------------------------------------------------------------------- what users call


def _tasks(names: Sequence[str]) -> Iterator[tuple[str, Callable[[], Any]]]:
    stars = planted(80, 60, density=0.3).ratings
    tenths = Ratings(stars.by_user * np.float64(1.1))              # which 32 bits do not hold
    weighted = Ratings(stars.by_user, weights=np.full(stars.nnz, 0.5))
    groups = {f"{side}_features": multi_hot([[f"g{row % 3}"] for row in range(size)])
              for side, size in zip(("user", "item"), stars.shape, strict=True)}
    large = planted(2 * LEAST_CELLS // 1000, 1000, density=0.6).ratings \
        if {"MatrixFactorization", "ImplicitMF"} & set(names) else None
    yield "reading", _read
    yield "lists", _list
    for name in names:
        made: Any = getattr(import_module(registry.MODELS[name].module), name)
        yield name, partial(_asked, made, stars)
        yield name, partial(_asked, made, tenths)
        if not registry.lacks(made, "weights"):
            yield name, partial(_asked, made, weighted)
        given = {side: features for side, features in groups.items()
                 if registry.MODELS[name].answer(side) == "yes"}
        if given:
            yield name, partial(_asked, made, stars, **given)
        if large is not None and name in ("MatrixFactorization", "ImplicitMF"):
            yield name, partial(_fitted, made, large)
            for each in (stars, tenths, weighted):
                yield name, partial(_fitted_as_large, made, each)


FILES = {"numbers": "user,item,rating,timestamp\n3,2,4,30\n1,3,2.5,10\n2,1,1e0,20\n",
         "words": 'user,item,rating,weight\nc,"b",4,1\na,"c",2.5,0.5\nb,"a",1e0,2\n'}


def _read() -> None:
    """Read ids of both kinds, in no order, from files and from arrays."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            path = Path(folder) / f"{name}.csv"
            path.write_text(text)
            read_ratings(path, weight="weight" if "weight" in text else None,
                         time_column="timestamp" if "timestamp" in text else None)
    for users in [3, 1, 2], ["c", "a", "b"]:
        Ratings.from_arrays(users, users[::-1], [1.5, 2.0, 3.0], times=[3, 1, 2], duplicates="sum")


def _list() -> None:
    """Make lists that are long, of many items, which those of a few ratings are not."""
    for dtype in np.float32, np.float64:
        best_of_block(np.zeros((1, GROUPS * GROUP_SIZE), dtype), LONG_LIST)


def _fitted(made: Any, ratings: Ratings, **given: Any) -> Any:
    model = made()
    sizes = {name: value for name, value in SIZES.items() if name in model.get_params()}
    return model.set_params(**sizes).fit(ratings, **given)


def _fitted_as_large(made: Any, ratings: Ratings) -> None:
    with sides_as_large():
        _fitted(made, ratings)


def _asked(made: Any, ratings: Ratings, **given: Any) -> None:
    """Fit a model and ask it for all that it answers, as it is and out of a file."""
    model = _fitted(made, ratings, **given)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.mfcore")
        again = load(Path(folder) / "model.mfcore")
    some, few = ratings.select_users(np.arange(5)), np.arange(3)
    mask = ratings.by_user[:3]
    questions: list[Callable[[Any], Any]] = [
        lambda model: model.recommend(few), lambda model: model.recommend(few, 50),
        lambda model: model.recommend(few, similarity="cosine"),
        lambda model: model.recommend(few, items=mask),
        lambda model: model.recommend(few, exclude_items=mask),
        lambda model: model.recommend(ratings=some), lambda model: model.predict(few, few),
        lambda model: model.predict(few, few, ratings=some),
        lambda model: model.similar_items(few), lambda model: model.similar_users(few),
        lambda model: model.explain(0, 1), lambda model: model.objective(),
        lambda model: model.fold_in_items(Ratings(ratings.by_user[:, :2])),
        lambda model: evaluate(model, ratings, metrics=["ndcg@10", "recall@20"]),
        lambda model: evaluate(model, ratings),
        lambda model: model.partial_fit(some, users=np.arange(5)),
        lambda model: model.update(Ratings.from_arrays([0, ratings.shape[0]], [1, 0]))]
    for each in (model, again):
        for ask in questions:
            with suppress(NotImplementedError, ValueError, KeyError):
                ask(each)
