"""What a comparison of models found: differences, how sure they are, and verdicts in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mfcore.metrics.table import METRICS, sign

NONE = "no difference shown"


class Difference(NamedTuple):
    """A difference of two models in one metric.

    Attributes
    ----------
    metric : str
    first, second : str
        Names of the models.
    difference : float
        Of the first less the second.
    low, high : float
        Its interval, for this difference alone.
    p : float
        Probability of a difference as large if there were none.
    p_holm : float
        The same, corrected for all differences of the comparison.
    verdict : str
        "better" or "worse", of the first ("higher" or "lower" for a metric such as novelty, where
        more is not better), if p_holm <= 1 − confidence; else "no difference shown".
    """

    metric: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    verdict: str

    def judged(self, p_holm: float, confidence: float) -> Difference:
        """Return the same with its corrected p-value, and the verdict that follows."""
        words = ("better", "worse") if METRICS[self.metric.partition("@")[0]].better else \
            ("higher", "lower")
        verdict = words[sign(self.metric) * self.difference < 0] if p_holm <= 1 - confidence else \
            NONE
        return self._replace(p_holm=p_holm, verdict=verdict)

    @property
    def at_most(self) -> float:
        """How large the difference may be, in absolute value: the farther end of its interval."""
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        return (f"{self.first} against {self.second}, {self.metric}: {self.says} "
                f"({self.difference:+.4g}, from {self.low:+.4g} to {self.high:+.4g})")

    @property
    def says(self) -> str:
        """The verdict in words."""
        return f"{NONE}, at most {self.at_most:.4g}" if self.verdict == NONE else self.verdict


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; printed, it is a table.

    Attributes
    ----------
    values : dict of str to dict of str to float
        Of each model, each metric: the mean over folds, or over a fit and its refits.
    differences : list of Difference
        Of each pair, each metric; `pandas.DataFrame(comparison.differences)` is a frame.
    confidence : float
    n_users : int
        Users who were measured.
    n_folds : int
        Test sets; 1 without folds.
    n_fits : int
        Fits of each model that has a `random_state`.
    """

    values: dict[str, dict[str, float]]
    differences: list[Difference]
    confidence: float
    n_users: int
    n_folds: int
    n_fits: int

    def __getitem__(self, metric: str) -> list[Difference]:
        """Return the differences in a metric; KeyError for one that was not compared."""
        found = [each for each in self.differences if each.metric == metric]
        if not found:
            known = dict.fromkeys(each.metric for each in self.differences)
            raise KeyError(f"metric must be one of {', '.join(known)}, got {metric!r}")
        return found

    def __str__(self) -> str:
        keys = list(next(iter(self.values.values())))
        means = [["model", *keys], *([name, *(f"{found[key]:.4f}" for key in keys)]
                                     for name, found in self.values.items())]
        rows = [["metric", "first", "second", "difference", f"{100 * self.confidence:g} % interval",
                 "p (Holm)", "verdict of the first"], *map(_row, self.differences)]
        of = "fold" if self.n_folds > 1 else "fit"
        return (f"{_aligned(means)}\n\n{_aligned(rows)}\n\n{self.n_users:,} users, {self.n_fits} "
                f"{of}{'s' * (self.n_fits > 1)}; each interval is for its difference alone, "
                f"verdicts are corrected for all of them")


def _row(each: Difference) -> list[str]:
    return [each.metric, each.first, each.second, f"{each.difference:+.4g}",
            f"{each.low:+.4g} to {each.high:+.4g}", f"{each.p_holm:.2g}", each.says]


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
