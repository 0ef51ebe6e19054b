"""`mfcore convert`: files larger than memory into a folder that fits are fed from."""

from __future__ import annotations

import re
from argparse import Namespace

from mfcore.cli.inputs import reading_of
from mfcore.cli.output import Answer, shows_progress

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def convert(arguments: Namespace) -> Answer:
    """Sort ratings files into a folder within the stated memory."""
    from mfcore.data.convert import convert as sort

    ratings = sort(arguments.files, arguments.out, memory=byte_count(arguments.memory),
                   duplicates=arguments.duplicates, reading=reading_of(arguments),
                   verbose=int(shows_progress(arguments.quiet)))
    n_users, n_items = ratings.shape
    return Answer({"out": arguments.out, "users": n_users, "items": n_items,
                   "ratings": ratings.nnz}, f"{arguments.out}: {ratings}")


def byte_count(text: str) -> int:
    """Return the bytes that "2GB", "512MB" or a plain number stand for.

    Raises ValueError for anything else.
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kmgt]?)b?", text.strip().lower())
    if found is None:
        raise ValueError(f"--memory must be a size such as 2GB or 512MB, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])
