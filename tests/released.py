"""Model files as each released version wrote them: written once, and loaded ever after.

    python tests/released.py           # fixtures/VERSION/, if this version has none

One small model of each class, a folder of ratings, and answers.json: what the models answered
when they were written.  Run it for each release, and never again for that version.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import samples

import mfcore

FIXTURES = Path(__file__).parent / "fixtures"


def ratings() -> Any:
    """The ratings that the models learned from, with names and weights."""
    cells = samples.counts()
    return mfcore.Ratings(cells, weights=samples.weights(cells),
                          user_ids=samples.names(cells.shape[0], "u"),
                          item_ids=samples.names(cells.shape[1], "i"))


def models() -> dict[str, Any]:
    """One small fitted model of each class, by its name."""
    given = samples.named(samples.counts())
    return {made.__name__: samples.small(made).fit(given) for made in samples.EVERY}


def answers(model: Any) -> dict[str, Any]:
    """What a model answers, as plain lists."""
    users, items = list(model.user_ids_), list(model.item_ids_)
    ids, scores = model.recommend(users, 3)
    return {"predict": _plain(model.predict(np.repeat(users, len(items)), items * len(users))),
            "recommend": ids.tolist(), "scores": _plain(scores),
            "new user": _plain(model.predict([0] * len(items), items,
                                             ratings=samples.counts(1, len(items), seed=7)))}


def _plain(values: np.ndarray) -> Any:
    """Floats as a list; −∞, which JSON has not, as None."""
    return np.where(np.isfinite(values), values.astype(object), None).tolist()


def write(folder: Path) -> None:
    """Write models, ratings and answers to a new folder."""
    folder.mkdir(parents=True)
    found = {}
    for name, model in models().items():
        model.save(folder / f"{name}.mfcore")
        found[name] = answers(model)
    ratings().write(folder / "ratings")
    (folder / "answers.json").write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    place = FIXTURES / mfcore.__version__
    if place.exists():
        sys.exit(f"{place} exists: files of a released version are not written again")
    write(place)
