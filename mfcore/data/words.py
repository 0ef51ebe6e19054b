"""Ids of text: distinct words, each kept once, and a number in place of each occurrence."""

from __future__ import annotations

import unicodedata
from collections.abc import Container, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from mfcore.data.dialect import BLANKS
from mfcore.kernels import text as kernel

# Characters that are seen only by what they do to others (scripts, emoji).
_SHAPING = {"\u200c", "\u200d", *map(chr, range(0xE0020, 0xE0080))}


class Words:
    """Distinct words in the order in which they come, numbered from 0."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._table = np.full(1 << 10, -1, np.int64)
        self._hashes, self._ends = np.empty(0, np.int64), np.zeros(1, np.int64)
        self._bytes = np.empty(0, np.uint8)

    def numbers(self, text: np.ndarray, starts: np.ndarray, stops: np.ndarray
                ) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of each word of a column, and the first row of each new word.

        Parameters
        ----------
        text : ndarray of uint8
        starts, stops : ndarray of int32, shape (n_rows,)
            First byte of each word, and the byte after it.
        """
        known, n_rows = len(self.texts), len(starts)
        self._make_room(known + n_rows, int(self._ends[known]) + len(text))
        codes, rows = np.empty(n_rows, np.int64), np.empty(n_rows, np.int64)
        total = kernel.number_words(text, starts, stops, self._table, self._hashes, self._ends,
                                    self._bytes, known, codes, rows)
        self.texts += self._decoded(known, total)
        return codes, rows[:total - known]

    def numbers_of(self, texts: list[str]) -> np.ndarray:
        """Return the number of each of some words."""
        ends = np.cumsum([0, *(len(each.encode()) for each in texts)]).astype(np.int32)
        data = np.frombuffer("".join(texts).encode(), np.uint8)
        return self.numbers(data, ends[:-1], ends[1:])[0]

    def _make_room(self, n_words: int, n_bytes: int) -> None:
        self._hashes = _longer(self._hashes, n_words)
        self._ends = _longer(self._ends, n_words + 1)
        self._bytes = _longer(self._bytes, n_bytes)
        if 2 * n_words > len(self._table):
            self._table = np.full(1 << (2 * n_words).bit_length(), -1, np.int64)
            kernel.fill_table(self._hashes, len(self.texts), self._table)

    def _decoded(self, start: int, stop: int) -> list[str]:
        ends = self._ends[start:stop + 1]
        data = self._bytes[ends[0]:ends[-1]].tobytes()
        return [data[a:b].decode() for a, b in pairwise((ends - ends[0]).tolist())]


def _longer(array: np.ndarray, size: int) -> np.ndarray:
    if len(array) >= size:
        return array
    return np.concatenate([array, np.zeros(max(size - len(array), len(array)), array.dtype)])


def cure_of(text: str, missing: Container[str], title: str | None) -> str | None:
    """Return what to do about a word that cannot be an id, to follow what it is; None if it can.

    Parameters
    ----------
    missing : collection of str
        How a missing id is written, in lower case.
    title : str or None
        The name of the column.
    """
    if not text or text.lower() in missing:
        return "; leave such lines out" + (", or, if it is a name, say missing=()" if text else "")
    if text == title:
        return ("; leave out headers between the lines, or, if it is an id, say header=False, "
                "skip_lines=...")
    if not text.isprintable() and (seen := invisible(text)) is not None:
        return f", which has {described(seen)} in it, that nobody sees; remove it"
    return None


def refuse_words(name: str, ids: Sequence[Any], rows: np.ndarray, missing: Sequence[str]) -> None:
    """Raise a ValueError that names the first distinct id that is a missing one, as in a file."""
    words = {word.lower() for word in missing}
    for code, text in enumerate(ids):
        if isinstance(text, str) and (cure := cure_of(text.strip(BLANKS), words, None)) is not None:
            raise ValueError(f"{name} must hold ids, got {text!r} in row {np.argmax(rows == code)}"
                             f"{cure}")


def invisible(text: str) -> str | None:
    """Return a character of a word that nobody sees, if there is one.

    These are control and format characters (byte-order marks, spaces of no width) and, at the
    ends, spaces.  Line ends and tabs inside are seen, and so are joiners, by what they join.
    """
    if text.isprintable():
        return None
    for place, character in enumerate(text):
        kind = unicodedata.category(character)
        at_end = place in (0, len(text) - 1)
        if kind in ("Cf", "Zl", "Zp") and character not in _SHAPING or \
                kind == "Cc" and (at_end or character not in "\t\r\n") or kind == "Zs" and at_end:
            return character
    return None


def described(character: str) -> str:
    """Name a character that nobody sees."""
    name = unicodedata.name(character, "a control character").lower()
    return f"U+{ord(character):04X} ({name})"
