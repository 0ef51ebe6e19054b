"""Messages of the library in the words of the command line: flags in place of arguments."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

# Arguments of Python, the option that sets each, and the values for which it is written otherwise.
FLAGS: dict[str, tuple[str, dict[str, str]]] = {
    "user": ("user_column", {}), "item": ("item_column", {}),
    "rating": ("rating_column", {"None": "--rating-column none"}),
    "separator": ("separator", {}), "duplicates": ("duplicates", {}),
    "header": ("header", {"True": "--header", "False": "--no-header"}),
    "encoding": ("encoding", {}), "comment": ("comment", {}), "skip_lines": ("skip_lines", {}),
    "text_ids": ("text_ids", {"True": "--text-ids"}),
    "quoting": ("no_quotes", {"False": "--no-quotes"}),
    "missing": ("missing", {"()": "--missing ''"}),
    "n_factors": ("factors", {}), "reg": ("reg", {}), "bias": ("bias", {"None": "--bias none"}),
    "n_epochs": ("epochs", {}), "n_threads": ("threads", {}), "random_state": ("seed", {}),
    "k": ("k", {}), "metrics": ("metrics", {}), "metric": ("metric", {}),
    "threshold": ("threshold", {}), "n_folds": ("folds", {}), "fold_in": ("fold_in", {}),
    "exclude_seen": ("include_seen", {"False": "--include-seen"}), "budget": ("budget", {}),
    "validation": ("validation", {}), "baseline": ("baseline", {}), "refits": ("refits", {}),
    "confidence": ("confidence", {}), "method": ("method", {}), "memory": ("memory", {}),
    "unknown": ("unknown", {}), "titles": ("titles", {}), "by": ("by", {}),
    "estimator": ("estimator", {}),
}
_NAME = "|".join(sorted(FLAGS, key=len, reverse=True))
_VALUE = r"""'(?:[^'\\]|\\.)*'|"[^"]*"|\.\.\.|\(\)|-?\w[\w.-]*|"""
_ASSIGNED = re.compile(rf"(?<![\w.(])\(?\b({_NAME})=({_VALUE})(?![=\w])")
_SUBJECT = re.compile(rf"(^|[:;] )({_NAME}) (must|goes|needs|holds|names)\b")
_SEVERAL = re.compile(r'''duplicates="last", "mean" or "sum"''')


def in_flags(text: str, arguments: Namespace) -> str:
    """Return a message with the flags of a command where it names arguments of functions."""
    def flag(name: str) -> str | None:
        option = FLAGS[name][0]
        return f"--{option.replace('_', '-')}" if hasattr(arguments, option) else None

    def assigned(found: re.Match[str]) -> str:
        name, value = found[1], found[2]
        if flag(name) is None:
            return found[0]
        before = "(" if found[0].startswith("(") else ""
        written = FLAGS[name][1].get(value, f"{flag(name)} {value.strip(_QUOTES)}".rstrip())
        return before + written

    def subject(found: re.Match[str]) -> Any:
        name = flag(found[2])
        return found[0] if name is None else f"{found[1]}{name} {found[3]}"

    text = _SEVERAL.sub("duplicates=last, mean or sum", text)
    return _SUBJECT.sub(subject, _ASSIGNED.sub(assigned, text))


_QUOTES = "'\""
