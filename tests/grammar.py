"""Texts of odd form, and three readers that must agree on them.

    python tests/grammar.py EXECUTIONS [SEED]

A file without quotes is split by a kernel, any other by Python's `csv`: here every text is read
both ways, in blocks of different sizes, and by a naive twin, and must give the same columns or the
same complaint.
"""

from __future__ import annotations

import math
import random
import re
import sys
import time
from collections import Counter
from contextlib import contextmanager
from typing import Any

import numpy as np

from mfcore.data import blocks, readers, textfile
from mfcore.data.dialect import RUNS
from mfcore.data.layout import Layout, Reading
from mfcore.data.readers import read_columns
from mfcore.data.textfile import text_of
from mfcore.parallel import Pool

SEPARATORS = [",", "\t", "::", ";", "|", " ", "  ", " \t"]
ENDS = ["\n", "\r\n", "\r", "\n\n", " \n", "\r\r\n"]
HEADER = ["user", "item", "rating", "timestamp", "note"]
IDS = [["1", "2", "37"], ["ann", "bob", "Zoë"], ["1", "-5", "0"], ["1", "x"], ["7", "007", "+7"],
       ["9223372036854775807", "-9223372036854775808"], ["1", "9223372036854775808"]]
NUMBERS = [["5", "4.5", "1e1", ".5", "3."], ["+5", "-0.25", "12345678901234567.5", "3e-320"]]
ODD = ["", "-", "#", "%", "#x", "1_0", "nan", "NULL", "0x1", "1e", "1e400", "1e999", "-0", "a b",
       "3,5", "\u0663", "\u00a0", "x\u00a0", "\ufeff1", "\u200b", "e\u0301", "1.2.3", ".", "--1",
       "user", "item", "rating", "9" * 30, "'"]
LINES = ["# c", "% a b", "#a,b,c", "# user item rating", "sep=;", " \t", "0,1,2", "1,2,3,4,5,6"]
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
NEVER = re.compile("(?!)")


def text(draw: random.Random, quotes: bool = False) -> bytes:
    """A file of a few lines, most of them usual."""
    separator, end, width = draw.choice(SEPARATORS), draw.choice(ENDS), draw.randint(2, 5)
    pools = [draw.choice(IDS), draw.choice(IDS), *draw.choices(NUMBERS, k=width - 2)]
    odd = draw.choice([0.0, 0.0, 0.05, 0.3])
    lines = []
    for _ in range(draw.randint(1, 8)):
        fields = [draw.choice(pool) if draw.random() >= odd else draw.choice(ODD)
                  for pool in pools]
        fields = fields[:-1] if draw.random() < odd / 4 else fields
        fields += [draw.choice(ODD)] if draw.random() < odd / 4 else []
        if draw.random() < 0.1:
            fields = [draw.choice([" ", "", "\t"]) + field + draw.choice(["", " "])
                      for field in fields]
        lines.append(separator.join(fields) + (end if draw.random() < 0.95 else draw.choice(ENDS)))
    if draw.random() < 0.3:
        lines.insert(0, separator.join(HEADER[:width]) + end)
    if draw.random() < 0.15:
        lines.insert(draw.choice([0, draw.randrange(len(lines) + 1)]), draw.choice(LINES) + end)
    data = bytearray("".join(lines).encode())
    if draw.random() < 0.3:
        data = data.rstrip(b"\r\n")
    if draw.random() < 0.02:
        data[draw.randrange(len(data) + 1):0] = draw.choice([b"\0", b"\xff", b"\xc3"])
    for _ in range(draw.choice([0, 1, 2, 4]) if quotes else 0):
        place = draw.randrange(len(data) + 1)
        data[place:place] = b'"'
    return bytes(data)


def options(draw: random.Random) -> dict[str, Any]:
    """Some of the options of a reader."""
    chosen: dict[str, Any] = {}
    for name, values, share in (
            ("rating", [None], 0.2), ("weight", [3], 0.1), ("text_ids", [True], 0.2),
            ("separator", [*SEPARATORS[:6], "¦", "x"], 0.1), ("header", [True, False], 0.1),
            ("comment", ["#", "", "%", "1"], 0.2), ("skip_lines", [0, 1, 2], 0.1),
            ("quoting", [False], 0.2)):
        if draw.random() < share:
            chosen[name] = draw.choice(values)
    if "weight" not in chosen and draw.random() < 0.1:
        chosen["timestamp"] = 3
    return chosen


@contextmanager
def cut(draw: random.Random, simple: re.Pattern[str]):
    """Read in pieces and blocks of other sizes; `simple` says which separators a kernel knows."""
    kept = (textfile._PIECE_BYTES, readers.BLOCK_BYTES, blocks.BLOCK_RECORDS, blocks.SIMPLE)
    textfile._PIECE_BYTES = draw.choice([1, 3, 10, kept[0]])
    readers.BLOCK_BYTES = draw.choice([1, 8, 64, kept[1]])
    blocks.BLOCK_RECORDS = draw.choice([1, 2, 1000])
    blocks.SIMPLE = simple
    try:
        yield
    finally:
        textfile._PIECE_BYTES, readers.BLOCK_BYTES, blocks.BLOCK_RECORDS, blocks.SIMPLE = kept


def outcome(data: bytes, given: dict[str, Any]) -> tuple[Any, ...]:
    """The columns with their types and bits, or the complaint."""
    try:
        found = read_columns(text_of("x", data), Reading(**given), 1)
    except (ValueError, TypeError) as error:
        return type(error).__name__, str(error)
    arrays = [None if each is None else np.asarray(each) for each in found]
    return tuple(None if each is None else
                 each.tolist() if each.dtype == object else (str(each.dtype), each.tobytes())
                 for each in arrays)


def both(data: bytes, given: dict[str, Any], draw: random.Random) -> tuple[Any, Any]:
    """What the kernel makes of a text, where it may, and what `csv` makes of it."""
    with cut(draw, blocks.SIMPLE):
        first = outcome(data, given)
    with cut(draw, NEVER):
        return first, outcome(data, given)


# --------------------------------------------------------------------------- the naive twin


def naive(data: bytes, given: dict[str, Any]) -> tuple[Any, ...] | int | None:
    """The columns of a text without invisible characters; the line of a complaint; or None.

    None: the layout is refused, or the text is no UTF-8.
    """
    reading = Reading(**given).checked()
    try:
        layout, _ = blocks.opened(text_of("x", data), reading, 1 << 22)
        lines = re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", data.decode())
    except ValueError:
        return None
    rows, wrong = naive_rows(lines, layout)
    columns: dict[str, Any] = {}
    decimals = []                       # which are refused last
    for what, place in layout.columns.items():
        texts = [fields[place] for _, fields in rows]
        if what in ("user", "item"):
            columns[what], bad, decimal = naive_ids(texts, reading, layout.title(what))
            decimals += [rows[row][0] for row in decimal]
        else:
            columns[what], bad = naive_numbers(what, texts)
        wrong += [rows[row][0] for row in bad]
    return min(wrong or decimals) if wrong or decimals else tuple(
        columns.get(what) for what in ("user", "item", "rating", "weight", "timestamp"))


def naive_rows(lines: list[str], layout: Layout) -> tuple[list[tuple[int, list[str]]], list[int]]:
    """(number, fields) of the lines, and the number of the first that cannot be split, if any."""
    dialect, rows = layout.dialect, []
    for number, line in enumerate(lines[layout.start:], layout.start + 1):
        if dialect.comment and line.lstrip(" \t").startswith(dialect.comment):
            if dialect.refuses_comments:
                return rows, [number]
            continue
        bare = line.rstrip("\r\n")
        fields = bare.split() if dialect.separator == RUNS else bare.split(dialect.separator)
        fields = [field.strip(" \t") for field in fields]
        if fields in ([], [""]):
            continue
        if not layout.fits(len(fields)):
            return rows, [number]
        rows.append((number, fields))
    return rows, []


def naive_ids(texts: list[str], reading: Reading, title: str | None
              ) -> tuple[Any, list[int], list[int]]:
    """A column of ids, the rows that are refused, and the first decimal if all are numbers."""
    bad = [row for row, text in enumerate(texts)
           if not text or text.lower() in reading.missing or text == title]
    if not reading.text_ids and all(re.fullmatch("0|-?[1-9][0-9]*", text)
                                    and -2**63 <= int(text) < 2**63 for text in texts):
        return ("int64", np.array(texts, np.int64).tobytes()), bad, []
    numeric = all(re.fullmatch(NUMBER, text) for text in texts) and not reading.text_ids
    decimal = [row for row, text in enumerate(texts) if re.search("[.eE]", text)]
    return texts, bad, decimal[:1] if numeric else []


def naive_numbers(what: str, texts: list[str]) -> tuple[Any, list[int]]:
    """A column of numbers, and the rows that are refused."""
    values: list[Any] = []
    for text in texts:
        value = float(text) if re.fullmatch(NUMBER, text) else math.nan
        if what == "timestamp" and re.fullmatch(r"[+-]?[0-9]+(\.[0-9]*)?", text):
            value = int(text.partition(".")[0])
        values.append(value)
    least = 0 if what == "weight" else -math.inf
    below = 2**63 if what == "timestamp" else math.inf
    bad = [row for row, value in enumerate(values) if not (value >= least and abs(value) < below)]
    if what == "timestamp":
        return ("int64", b"" if bad else np.array(list(map(int, values)), np.int64).tobytes()), bad
    return ("float64", np.array(values, np.float64).tobytes()), bad


def complaint_line(found: tuple[Any, ...]) -> int | None:
    """The line that a complaint names."""
    named = re.match(r"x, line (\d+): ", found[1]) if isinstance(found[0], str) else None
    return int(named[1]) if named else None


def run(count: int, seed: int) -> Counter[str]:
    """Compare; return how often texts were read and refused, and on which they differed."""
    draw, found = random.Random(seed), Counter(read=0, refused=0, different=0)
    with Pool(1):                       # (which holds BLAS for all of them)
        for _ in range(count):
            data, given = text(draw, quotes=draw.random() < 0.3), options(draw)
            first, second = both(data, given, draw)
            found["read" if isinstance(first[0], (tuple, list)) else "refused"] += 1
            if first != second:
                found["different"] += 1
                sys.stderr.write(f"{data!r} {given}\n  {first}\n  {second}\n")
    return found


if __name__ == "__main__":
    start = time.monotonic()
    total = run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
    sys.stdout.write(f"{dict(total)} in {time.monotonic() - start:.0f} s\n")
