"""Lists of best items or nearest neighbours, one per owner, made and written a part at a time.

A million users have a hundred megabytes of lists and several gigabytes of their text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from mfcore.cli import inputs
from mfcore.cli.output import Listing, shown

ROWS, NUMBERS = 8192, 1 << 20           # owners, and places in their lists, at a time

# best(start, stop, k) returns ids and scores of owners start..stop, shape (stop - start, k).
Best = Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]


class Kind(NamedTuple):
    """What is listed for whom: the title in JSON, what owners and entries are, titles of items."""

    title: str
    owner: str
    entry: str
    titles: inputs.Titles


def listing(kind: Kind, owners: np.ndarray, k: int, n_entries: int, best: Best) -> Listing:
    """Return the lists of owners; none is longer than the number of entries that there are."""
    return Listing(kind.title, _entries(kind, owners, min(k, n_entries), best))


def _entries(kind: Kind, owners: np.ndarray, k: int, best: Best
             ) -> Iterator[tuple[dict[str, Any], str]]:
    step = max(1, min(ROWS, NUMBERS // max(1, k)))
    for start in range(0, len(owners), step):
        stop = min(start + step, len(owners))
        ids, scores = best(start, stop, k)
        for owner, row, values in zip(owners[start:stop].tolist(), ids, scores, strict=True):
            listed = np.isfinite(values)            # (-inf pads a list that is too short)
            yield _entry(kind, owner, row[listed].tolist(), values[listed].tolist())


def _entry(kind: Kind, owner: Any, ids: list[Any], scores: list[float]
           ) -> tuple[dict[str, Any], str]:
    """Return the list of an owner, best entries first, as data and as text."""
    head = {kind.owner: owner, **_titled(owner, kind.titles if kind.owner == "item" else {})}
    entries = [{kind.entry: each, "score": score, **_titled(each, kind.titles)}
               for each, score in zip(ids, scores, strict=True)]
    lines = [f"{place:4d}  {each['score']:8.4f}  {_labelled(kind.entry, each)}"
             for place, each in enumerate(entries, 1)] or ["      nothing left to list"]
    return {**head, f"{kind.entry}s": entries}, "\n".join(
        [f"{kind.owner} {_labelled(kind.owner, head)}", *lines])


def _titled(each: Any, titles: inputs.Titles) -> dict[str, str]:
    return {"title": titles[each]} if each in titles else {}


def _labelled(name: str, found: dict[str, Any]) -> str:
    label = shown(found[name])
    return f"{shown(found['title'])} ({label})" if "title" in found else label
