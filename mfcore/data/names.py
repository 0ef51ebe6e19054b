"""What columns are called, and how missing values are written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mfcore import validation

Column = int | str | None

# Columns of a file without a header, unless they are given by number.
POSITIONS = {"user": 0, "item": 1, "rating": 2, "timestamp": 3}
SPELLINGS = {
    "user": ("user", "userid", "users", "uid", "customer", "customerid"),
    "item": ("item", "itemid", "items", "iid", "movie", "movieid", "product", "productid"),
    "rating": ("rating", "ratings", "score", "stars", "value"),
    "weight": ("weight", "weights"),
    "timestamp": ("timestamp", "time", "unixtime", "ts"),
}
# Spellings of a missing value, in lower case: what databases, spreadsheets and languages write.
MISSING = ("na", "n/a", "<na>", "#n/a", "#n/a n/a", "#na", "nan", "-nan", "nat", "null", "<null>",
           "(null)", "#null!", "none", "nil", "\\n", "missing", "undefined", "?", "-", "--", ".",
           "#value!", "#ref!", "#div/0!", "#name?", "#num!", "1.#ind", "-1.#ind", "1.#qnan",
           "-1.#qnan")
# Fields that are not names of columns.
_NO_NAMES = {"", "inf", "infinity", "true", "false", *MISSING}


def _plain(field: str) -> str:
    """Reduce `user_id:token`, `userId` and `User ID` to `userid`; keep digits."""
    untyped = re.sub(r":(token|float)(_seq)?$", "", field.strip().lower())
    return re.sub(r"[\W_]", "", untyped)


def names_any(fields: Sequence[str], *whats: str) -> bool:
    """Tell whether a field is a usual name of one of these columns."""
    return any(_plain(field) in SPELLINGS[what] for field in fields for what in whats)


def named_place(what: str, column: str, names: Sequence[Any]) -> int | None:
    """Return where a column is among names, by its own or by a usual one of what it is."""
    if column in names:
        return names.index(column)
    usual = [place for place, name in enumerate(names) if isinstance(name, str)
             and column == what and names_any([name], what)]
    return usual[0] if usual else None


def rating_place(first: Sequence[str], column: Column) -> int:
    """Return where the rating is, as far as the first line tells."""
    if not isinstance(column, str):
        return validation.integer("rating", column)
    named = [place for place, field in enumerate(first) if names_any([field], "rating")]
    return named[0] if named and not any(map(is_number, first)) else POSITIONS["rating"]


def may_be_name(field: str) -> bool:
    """Distinguish names from numbers, `5 stars`, `-` and spellings of a missing value."""
    return _plain(field)[:1].isalpha() and field.strip().lower() not in _NO_NAMES


def is_number(field: str) -> bool:
    """Tell whether a field may be meant as a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True
