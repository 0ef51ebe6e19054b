"""Ratings files of odd form, read by `read_ratings` and by pandas, which is told more.

    python tests/odd_files.py FILES [SEED]

pandas is told separator, header, comments and encoding, reads ids as text, and its frame goes to
`Ratings.from_frame`.  `read_ratings` is told the encoding alone.  Where it reads a file, it must
read what pandas reads; where it does not, it must name a line and a cure.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from mfcore import Ratings, read_ratings

NAMES = [("user", "item", "rating"), ("userId", "movieId", "rating"),
         ("User ID", "Product", "Score"), ("user_id", "item_id", "stars"),
         ("customer", "product", "value")]
USERS = [["1", "2", "37", "12345"], ["ann", "bob", "Zoë", "d'Arc"], ["007", "7", "+7"], ["-1", "0"],
         ["9223372036854775807", "92233720368547758080"], ["0003fa", "1e5", "12"],
         ["a@b.c", "x y"],
         ["3f2a-11", "3f2b-12"], ["#a", "#b"], ['say "hi"', "b"], ["P1", "P2"], ["x-1", "1.5"]]
NUMBERS = [["1", "2", "5"], ["0.5", "4.5", "3"], ["1e0", "5.", ".5", "+3"], ["-2.25", "1E1"],
           ["0.1", "3.3333333333333335", "12345678901234567"]]
STRANGE_NUMBERS = ["4,5", "1_0", "1,000", "0x1", "\uff15", "nan", "inf", "1e999", "", "NA", "five",
                   "5 stars", "--1", "1.2.3", "$5", "5%", "True"]
STRANGE_IDS = ["", "NULL", "NaN", "None", "\\N", "N/A", "-", "?", "\ufeff1", "1\u00a0", "a\u200bb",
               "a\x07b", " ", "\u3000x"]
REVIEWS = ["fine", "good, but long", "so;so", 'he said "no"', "two\nlines", "a|b\tc",
           "1,2,3\n4,5,6", "it's", "", "caf\u00e9", "# no comment", "::"]
SEPARATORS = [",", ",", ";", "\t", "|", "::", " "]


class Odd(NamedTuple):
    """A file: its bytes, what `read_ratings` is told, and what pandas is told."""

    name: str
    data: bytes
    given: dict[str, Any]
    told: dict[str, Any]
    places: tuple[int, int, int]        # of user, item and rating


def odd_file(draw: random.Random) -> Odd:
    """A table with one or more oddities."""
    def rare(share: float = 0.08) -> bool:
        return draw.random() < share

    separator, n_rows = draw.choice(SEPARATORS), draw.randint(2, 12)
    columns = [draw.choices(draw.choice(pool), k=n_rows) for pool in (USERS, USERS, NUMBERS)]
    header: list[str] | None = list(draw.choice(NAMES))
    if rare():
        columns[2][draw.randrange(n_rows)] = draw.choice(STRANGE_NUMBERS)
    if rare():
        columns[draw.randrange(2)][draw.randrange(n_rows)] = draw.choice(STRANGE_IDS)
    if rare(0.4):
        columns.append([str(draw.randrange(10**9)) for _ in range(n_rows)])
        header.append("timestamp")
    if rare(0.25):
        columns.append(draw.choices(REVIEWS, k=n_rows))
        header.append("review")
    order = list(range(len(columns)))
    named = not rare(0.3)
    if named and rare(0.3):
        draw.shuffle(order)
    columns, header = [columns[at] for at in order], [header[at] for at in order]
    places = tuple(order.index(at) for at in range(3))
    row_names = 0
    if named and rare():                                # pandas's index
        columns.insert(0, [str(row) for row in range(n_rows)])
        header.insert(0, "")
        places = tuple(at + 1 for at in places)
    elif named and rare(0.05):                          # R's row names
        columns.insert(0, [f"r{row}" for row in range(n_rows)])
        row_names = 1
    rows = [list(row) for row in zip(*columns, strict=True)]
    if rare(0.05):
        draw.choice(rows).append(draw.choice(["", "5", "x"]))
    if rare(0.05):
        draw.choice(rows).pop()
    if rare(0.03):
        rows = [[*row, ""] for row in rows]
    if named and rare(0.03):
        rows.insert(draw.randrange(n_rows), header)     # two files in one
    text = written(rows if not named else [header, *rows], separator, draw)
    told: dict[str, Any] = {"header": 0 if named else None}
    given: dict[str, Any] = {}
    if rare(0.06) and len(separator) == 1:
        text, told["skiprows"] = f"sep={separator}\n" + text, 1
    if rare(0.1):
        sign = draw.choice("#%")
        text, told["comment"] = f"{sign} exported\n{sign}\n" + text, sign
    if rare():
        text = text.replace("\n", "\n\n", 1) if "\n" in text else text
    if rare():
        text = "\n".join(draw.choice(["", " "]) + line for line in text.split("\n"))
    text = text.replace("\n", draw.choice(["\n", "\n", "\r\n", "\r"]))
    data = encoded(text, given, draw)
    name = "r.csv"
    if rare():
        data, name = gzip.compress(data), "r.csv.gz"
    told.update(sep=r"\s+" if separator == " " else separator, index_col=0 if row_names else False)
    if separator == "::":
        told["engine"] = "python"
    return Odd(name, data, given, told | {"encoding": given.get("encoding", "utf-8")}, places)


def written(rows: list[list[str]], separator: str, draw: random.Random) -> str:
    """The text of rows, with quotes as some program writes them, or none at all."""
    quoting = draw.choice([csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL, None])
    padded = draw.choice(["", "", "", " "])
    if quoting is None or len(separator) > 1:
        return "".join(separator.join(padded + field for field in row) + "\n" for row in rows)
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\n").writerows(rows)
    return text.getvalue()


def encoded(text: str, given: dict[str, Any], draw: random.Random) -> bytes:
    """The bytes of a text, rarely in another encoding, with a mark or with a fault."""
    chance = draw.random()
    if chance < 0.05:
        given["encoding"] = "utf-16"
    elif chance < 0.1:
        given["encoding"] = "latin-1"
    elif chance < 0.15:
        return b"\xef\xbb\xbf" + text.encode()
    elif chance < 0.17:
        data = bytearray(text.encode())
        data[draw.randrange(len(data))] = draw.choice([0, 0xFF])
        return bytes(data)
    return text.encode(given.get("encoding", "utf-8"), "replace")


# ----------------------------------------------------------------------------- both readers


def triples(ratings: Ratings) -> list[tuple[str, str, float]]:
    """The ratings, with ids as text."""
    cells = ratings.by_user.tocoo()
    users, items = ratings.user_ids, ratings.item_ids
    return sorted((str(users[u]), str(items[i]), float(r))
                  for u, i, r in zip(cells.row, cells.col, cells.data, strict=True))


def by_pandas(path: Path, odd: Odd) -> list[tuple[str, str, float]] | Exception:
    """What pandas reads, or why it, or `from_frame`, does not."""
    try:
        return triples(Ratings.from_frame(_frame(path, odd), duplicates="last"))
    except Exception as error:  # noqa: BLE001
        return error


def _frame(path: Path, odd: Odd) -> Any:
    import pandas as pd

    frame = pd.read_csv(path, dtype=str, skipinitialspace=True, **odd.told)
    picked = {name: frame.iloc[:, place] for name, place in
              zip(("user", "item", "rating"), odd.places, strict=True)}
    ids = {name: picked[name].str.strip(" \t") for name in ("user", "item")}
    return pd.DataFrame({**ids, "rating": pd.to_numeric(picked["rating"].str.strip(" \t"))})


def compared(path: Path, odd: Odd) -> tuple[str, str]:
    """How the two readers compare on a file, and what `read_ratings` said."""
    wanted = by_pandas(path, odd)
    try:
        found = triples(read_ratings(path, duplicates="last", **odd.given))
    except ValueError as error:
        said = str(error)
        told = re.search(r"line \d+|columns:|is a binary file", said) and re.search(r"[;:] ", said)
        return ("refused by both" if isinstance(wanted, Exception) else "refused") if told else \
            "refused without line and cure", said
    if isinstance(wanted, Exception):
        return "read where pandas refuses", f"{found[:3]} ({wanted})"
    return ("same" if found == wanted else "different"), f"{found[:3]} {wanted[:3]}"


def run(count: int, seed: int, show: tuple[str, ...] = ()) -> Counter[str]:
    """Compare on files; return how often each comparison came out."""
    draw, total = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(count):
            odd = odd_file(draw)
            path = Path(folder, odd.name)
            path.write_bytes(odd.data)
            verdict, said = compared(path, odd)
            total[verdict] += 1
            if verdict in show:
                sys.stderr.write(f"{verdict}: {odd.data[:200]!r} {odd.told}\n    {said[:300]}\n")
    return total


if __name__ == "__main__":
    shown = ("different", "refused without line and cure", *sys.argv[3:])
    found = run(int(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else 0, shown)
    sys.stdout.write(f"{dict(found)}\n")
