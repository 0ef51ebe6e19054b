"""`mfcore compare`: models on the same folds or test ratings, and how surely they differ."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import mfcore
from mfcore import validation
from mfcore.atomic import replaceable
from mfcore.cli import inputs
from mfcore.cli.commands import cut_folds
from mfcore.cli.models import ESTIMATORS, command_of, named_model, set_running
from mfcore.cli.output import Answer, progress


def compare(arguments: Namespace) -> Answer:
    """Compare model files on test ratings, or models by name on the folds of a data set."""
    from mfcore.plots import format_of_picture, plot_comparison, save_picture

    target = None if arguments.plot is None else replaceable(arguments.plot)
    if target is not None:
        format_of_picture("plot", target)
    models = {word: _model(word, arguments) for word in arguments.models}
    if len(models) < len(arguments.models):
        arguments.usage_error("give each model once, or with other parameters")
    for model in models.values():
        set_running(model, n_threads=arguments.threads, verbose=0)
    data = inputs.load_data(arguments.data, arguments)
    options = {"metrics": arguments.metrics, "k": arguments.k, "threshold": arguments.threshold,
               "exclude_seen": not arguments.include_seen, "n_threads": arguments.threads,
               "baseline": arguments.baseline, "confidence": arguments.confidence,
               "method": arguments.method, "refits": arguments.refits,
               "random_state": arguments.seed}
    if not any(map(_is_file, models)):
        options["folds"] = progress(cut_folds(arguments, data), arguments.quiet,
                                    total=arguments.folds, desc="folds", unit="fold")
    found = mfcore.compare(models, data.ratings, **options)
    if target is not None:
        save_picture(plot_comparison(found).figure, target)
    return Answer({"values": found.values, "confidence": found.confidence,
                   "users": found.n_users, "folds": found.n_folds, "fits": found.n_fits,
                   "differences": [each._asdict() for each in found.differences]}, str(found))


def _model(word: str, arguments: Namespace) -> Any:
    """Return a model file, loaded, or a new model: NAME or NAME:PARAMETER=VALUE:..."""
    if _is_file(word):
        return mfcore.load(word)
    name, *settings = word.split(":")
    command = command_of(name)
    if command not in ESTIMATORS:
        raise ValueError(f"there is no model file {word}, and no model of that name; known by "
                         f"name are {', '.join(ESTIMATORS)}{validation.meant(name, ESTIMATORS)}")
    return named_model(command, settings, arguments.seed)


def _is_file(word: str) -> bool:
    return Path(word).is_file()
