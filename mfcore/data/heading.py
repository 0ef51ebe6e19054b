"""Lines above the ratings of a file, and what looks like one of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence

from mfcore.data.dialect import (
    BLANKS,
    Dialect,
    LineError,
    comment_complaint,
    first_records,
    is_commented,
)
from mfcore.data.names import POSITIONS, Column, is_number, names_any, rating_place

COMMENTS = ("#", "%")           # how comments begin, if nobody says so


def declared_separator(lines: Sequence[str]) -> tuple[str | None, int]:
    """Return the separator of a first line such as `sep=;` (Excel's), and the lines it takes."""
    found = re.fullmatch(r'"?(?i:sep)=([^"\r\n])"?\s*', lines[0])
    return (found[1], 1) if found else (None, 0)


# Text that is not a table, by how it begins, and what to do about it.
_OTHER_FORMATS = {
    r"%%matrixmarket": "a MatrixMarket file; Ratings(scipy.io.mmread(path)) reads it",
    r"\[?\s*\{\s*(\"|$)|\[\s*($|\[)": "JSON; Ratings.from_frame(pandas.read_json(path)) reads "
                                    "it, with lines=True an object per line",
    r"<(!doctype|html|\?xml)": "a web page or XML; save the table in it as csv"}


def refuse_other_formats(lines: Sequence[str], before: int) -> None:
    """Raise a LineError for text in a format that is not a table of ratings."""
    for start, what in _OTHER_FORMATS.items():
        if lines and re.match(start, lines[0].strip(), re.IGNORECASE):
            raise LineError(before + 1, f"begins {what}")


def comments_at_the_top(lines: Sequence[str], start: int, comment: str | None
                         ) -> tuple[str, int]:
    """Return how comments begin, "" for none, and the number of lines up to the last at the top."""
    first = next((line for line in lines[start:] if line.strip(BLANKS)), "").lstrip(BLANKS)
    sign = comment if comment is not None else first[:1] if first.startswith(COMMENTS) else ""
    top = next((t for t in range(start, len(lines)) if lines[t].strip(BLANKS)
                and not is_commented(lines[t], sign)), len(lines))
    if top < len(lines):
        return sign, top
    if sign and comment is None and first[1:2] in (*BLANKS, sign):
        raise LineError(start + 1, f"and all after it begin with {sign!r}; comment='' reads them")
    return (comment or ""), start           # nothing else: these are no comments


def names_in_comment(lines: Sequence[str], dialect: Dialect, asked: Mapping[str, Column]
                      ) -> tuple[str, ...] | None:
    """Return the names of columns that the last comment at the top gives, if it does."""
    comments = [line for line in lines if is_commented(line, dialect.comment)]
    if not comments:
        return None
    text = comments[-1].lstrip(" \t").removeprefix(dialect.comment).lstrip(" \t")
    fields = [field.strip(BLANKS) for _, row in
              first_records([text], dialect._replace(comment="")) for field in row]
    named = all(names_any(fields, what) or asked[what] in fields for what in ("user", "item"))
    return tuple(fields) if named else None


def refuse_commented_rows(lines: Sequence[str], before: int, first: Sequence[str],
                           dialect: Dialect, asked: Mapping[str, Column]) -> None:
    """Raise a LineError for `#cats,10,5`: an id that begins so, or a rating that is left out."""
    for number, line in enumerate(lines, before + 1):
        after = line.lstrip(" \t").removeprefix(dialect.comment)
        if not after.strip(BLANKS) or after[0] in (*BLANKS, dialect.comment):
            continue
        for _, fields in first_records([line], dialect._replace(comment="")):
            place = rating_place(fields, asked["rating"]) if "rating" in asked else None
            if len(fields) == len(first) and (place is None or place < len(fields)
                                              and is_number(fields[place])):
                raise LineError(number, comment_complaint(dialect.comment))


def look_for_numbered_columns(name: str, first: Sequence[str], line: int,
                               asked: Mapping[str, Column]) -> None:
    """Warn of a line 0,1,2: pandas names columns so; raise a LineError if another has no name."""
    numbered = [str(number) for number in range(len(first))]
    if len(first) > 2 and list(first) == numbered:       # (0,1 may well be an edge)
        warnings.warn(f"{name}, line {line}: {','.join(first)} is read as a rating; pandas writes "
                      f"such a header for columns without names: header=True, {_named(asked, 0)} "
                      f"leaves it out, header=False keeps it", stacklevel=2)
    elif len(first) > 1 and first[0] == "" and list(first[1:]) == numbered[:-1]:
        raise LineError(line, f"numbers columns, as pandas does where they have no names; "
                              f"header=True, {_named(asked, 1)} reads them")


def _named(asked: Mapping[str, Column], first: int) -> str:
    return ", ".join(f"{what}={first + place}" for what, place in POSITIONS.items()
                     if what in asked)
