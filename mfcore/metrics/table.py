"""The metrics as data: their formulas and sources, and what each of them reads.

`evaluate`, `cross_validate`, `compare`, `evaluate_lists`, `score`, `eval_metric`, the command line
and the documentation read this table and keep no list of their own.  It imports nothing heavy.

    k, K        cut-off; min(k, number of candidates that are not relevant)
    m, h        relevant items of a user, and those among the first k (h is an expectation)
    r, t, g     rank of a relevant item, its number among them from 1, its rating
    n           candidates of a user, relevant items of unknown id among them
    L, n_i      the list of a user; number of training ratings of item i
    p, q        shares of the item features among what a user has rated, and in the list
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from mfcore import validation

PATIENCE = 0.85         # p of rank-biased precision: the chance that a user reads on


class Kind(NamedTuple):
    """A metric.

    reads : "ratings", predicted ratings of test cells; "ranks", places of relevant items;
        "scores", the whole row of a user; "lists", the list of each user; "catalogue", all lists
        together, so that there is no value for each user
    better : "higher", "lower", or "" where neither is better as such
    function : in the file of what it reads; "": that of its name
    total : function of sums over lists, of a metric that reads the catalogue
    cut : "k", a cut-off always; "free", none unless it is named; "none", never
    needs : what has to be given or known: "groups", "item_features", "counts" or "seen", the
        numbers of training ratings or the ratings themselves
    """

    name: str
    reads: str
    formula: str
    source: str = ""
    better: str = "higher"
    function: str = ""
    cut: str = "k"
    needs: tuple[str, ...] = ()
    total: str = ""


JARVELIN = "Järvelin, Kekäläinen 2002"
MOFFAT = "Moffat, Zobel 2008"

METRICS = {kind.name: kind for kind in (
    Kind("rmse", "ratings", "√(Σ w (r̂ − r)² / Σ w)", better="lower", cut="none"),
    Kind("mae", "ratings", "Σ w |r̂ − r| / Σ w", better="lower", cut="none"),
    Kind("n_relevant", "ranks", "m", better="", cut="none"),
    Kind("precision", "ranks", "h / k"),
    Kind("recall", "ranks", "h / m"),
    Kind("recall_capped", "ranks", "h / min(k, m)", "Liang, Krishnan, Hoffman, Jebara 2018"),
    Kind("f1", "ranks", "2 h / (k + m), the harmonic mean of precision and recall",
         "van Rijsbergen 1979"),
    Kind("hit_rate", "ranks", "1 if h > 0, else 0"),
    Kind("dcg", "ranks", "Σ_{r ≤ k} 1 / log2(r + 1)", JARVELIN),
    Kind("ndcg", "ranks", "dcg / dcg of the ideal order", JARVELIN),
    Kind("ndcg_graded", "ranks", "Σ_{r ≤ k} g / log2(r + 1) / that of the ideal order", JARVELIN,
         needs=("gains",)),
    Kind("ndcg_exponential", "ranks", "the same with the gain 2^g − 1",
         "Burges, Shaked, Renshaw, Lazier, Deeds, Hamilton, Hullender 2005", needs=("gains",)),
    Kind("rbp", "ranks", f"(1 − p) Σ_{{r ≤ k}} p^(r − 1), p = {PATIENCE}", MOFFAT,
         function="rank_biased_precision"),
    Kind("rbp_graded", "ranks", "the same with each term times g / the largest g of the test set",
         MOFFAT, function="graded_rank_biased_precision", needs=("gains",)),
    Kind("map", "ranks", "Σ_{r ≤ k} (t / r) / min(k, m)", function="average_precision"),
    Kind("mrr", "ranks", "1 / least r, or 0 beyond k", function="reciprocal_rank", cut="free"),
    Kind("auc", "scores", "share of the pairs (relevant, other) in the right order, ties ½",
         "Mann, Whitney 1947", function="area", cut="none"),
    Kind("auc_partial", "scores", "the same share with the first K others alone",
         "McClish 1989", function="partial_area"),
    Kind("auc_top", "scores", "the same with the first min(k, m) relevant items alone (pAp)",
         "Hiranandani, Vijitbenjaronk, Koyejo, Jain 2020",
         function="top_area"),
    Kind("accuracy", "scores", "1 − (k + m − 2 h) / n"),
    Kind("mcc", "scores", "(h n − k m) / √(k m (n − k) (n − m))", "Matthews 1975"),
    Kind("item_coverage", "catalogue", "share of the items that are in a list",
         total="coverage"),
    Kind("gini", "catalogue", "Σ_j (2 j − n − 1) x_j / (n Σ x), x_j ascending: lists with item j",
         "Fleder, Hosanagar 2009", better="lower", total="gini"),
    Kind("gini_exposure", "catalogue", f"the same with p^(r − 1) for a list, p = {PATIENCE}",
         "Diaz, Mitra, Ekstrand, Biega, Carterette 2020", better="lower", total="gini"),
    Kind("user_coverage", "lists", "1 if the list holds an item, else 0"),
    Kind("list_length", "lists", "|L|"),
    Kind("popularity", "lists", "Σ_L n_i / |L|", "Yin, Cui, Li, Yao, Chen 2012", better="",
         needs=("counts",)),
    Kind("popularity_rank", "lists", "mean rank by n_i, 1 the most popular", better="",
         needs=("counts",)),
    Kind("novelty", "lists", "−Σ_L log2(n_i / number of users) / |L|, n_i at least 1",
         "Zhou, Kuscsik, Liu, Medo, Wakeling, Zhang 2010", better="", needs=("counts",)),
    Kind("serendipity", "lists", "relevant items of L that the k most popular lack, / k",
         "Ge, Delgado-Battenfeld, Jannach 2010", needs=("counts",)),
    Kind("intra_list_similarity", "lists", "mean over pairs of L of the cosine of their features",
         "Ziegler, McNee, Konstan, Lausen 2005", better="", needs=("item_features",)),
    Kind("entropy", "lists", "−Σ_f q_f log2 q_f", "Shannon 1948", better="",
         needs=("item_features",)),
    Kind("entropy_ranked", "lists", f"the same, item at r weighs p^(r − 1), p = {PATIENCE}",
         MOFFAT, better="", needs=("item_features",)),
    Kind("calibration", "lists", "Σ_f p_f ln(p_f / (0.99 q_f + 0.01 p_f)); 0: as the user's own",
         "Steck 2018", better="lower", needs=("item_features", "seen")),
    Kind("cross_group_rate", "lists", "share of L whose group is not the user's", better="lower",
         needs=("groups",)),
    Kind("folding", "lists", "mean of max(0, q_s − q_r), see `mfcore.metrics.folding`",
         "Xin, Mayoraz, Pham, Lakshmanan, Anderson 2017", better="lower", needs=("seen",)),
    Kind("spurious_rate", "lists", "share of L with q_s − q_r > ½", better="lower",
         function="spurious", needs=("seen",)),
)}
DEFAULT = ("precision", "recall", "ndcg", "map", "mrr", "hit_rate")


class Metric(NamedTuple):
    """A metric asked for: its key in the result, its name, its cut-off (None: uncut)."""

    key: str
    name: str
    k: int | None

    @property
    def kind(self) -> Kind:
        """The entry of the table."""
        return METRICS[self.name]

    @property
    def cut(self) -> int:
        """The cut-off, 0 if there is none."""
        return self.k or 0


def main_metric(rates: bool) -> str:
    """Return what a model is judged by if nothing is asked: with ratings, or with rankings."""
    return "rmse" if rates else "ndcg"


def sign(metric: str) -> int:
    """Return −1 for a metric (or its key) where less is better, else 1."""
    return -1 if METRICS[metric.partition("@")[0]].better == "lower" else 1


def of_ratings(metric: str) -> bool:
    """Return whether a metric (or its key) is one of predicted ratings."""
    return METRICS[metric.partition("@")[0]].reads == "ratings"


def reading(metrics: Iterable[Metric], *reads: str) -> list[Metric]:
    """Return the metrics that read one of these."""
    return [metric for metric in metrics if metric.kind.reads in reads]


def needing(metrics: Iterable[Metric], *needs: str) -> list[Metric]:
    """Return the metrics that need one of these."""
    return [metric for metric in metrics if not set(needs).isdisjoint(metric.kind.needs)]


def check_given(metrics: Iterable[Metric], **given: Any) -> None:
    """Raise a ValueError for a metric that needs groups or item_features, where these are None."""
    forms = {"groups": "(user_groups, item_groups)", "item_features": "one row per item"}
    for name, form in forms.items():
        for metric in needing(metrics, name):
            if given[name] is None:
                raise ValueError(f"{name} must be {form} for {metric.name}, got None")


def requested(metrics: str | Sequence[str] | None, k: int | Sequence[int], *,
              rates: bool) -> list[Metric]:
    """Return the metrics asked for, one per cut-off; raise a ValueError for unknown ones."""
    cuts = [validation.count("k", cut) for cut in (
        k if isinstance(k, Iterable) and not isinstance(k, (str, bytes)) else [k])]
    if metrics is None:
        metrics = ("rmse", "mae", *DEFAULT) if rates else DEFAULT
    names = [metrics] if isinstance(metrics, str) else validation.iterable("metrics", metrics)
    if not cuts or not names:
        raise ValueError("k and metrics must name at least one cut-off and one metric")
    return list(dict.fromkeys(metric for name in names for metric in _cut(name, cuts)))


def watchable(name: str, metric: str) -> Metric:
    """Return a metric that a fit can watch, at 10 unless it names its own cut-off.

    Raises ValueError for an unknown one, and for one that needs what no fit is given.
    """
    found = requested([metric], 10, rates=False)[0]
    for need in {"groups", "item_features"} & set(found.kind.needs):
        raise ValueError(f"{name} must be one that needs no {need}, got {metric!r}; "
                         f"evaluate(..., {need}=...) measures it")
    return found


def _cut(name: str, cuts: list[int]) -> Iterator[Metric]:
    base, at, own = name.partition("@") if isinstance(name, str) else (name, "", "")
    if isinstance(base, str) and base not in METRICS:
        _refuse(base)
    kind = METRICS[validation.choice("metrics", base, METRICS)]
    if at and (kind.cut == "none" or not own.isdecimal() or int(own) < 1):
        raise ValueError(f"metrics must look like 'ndcg' or 'ndcg@10'"
                         f"{f', and {base} takes no cut-off' if kind.cut == 'none' else ''}, "
                         f"got {name!r}")
    if at:
        return iter([Metric(f"{base}@{int(own)}", base, int(own))])
    if kind.cut != "k":
        return iter([Metric(base, base, None)])
    return (Metric(f"{base}@{cut}", base, cut) for cut in cuts)


def _refuse(name: str) -> None:
    raise ValueError(f"metrics must be one of {', '.join(map(repr, METRICS))}, got {name!r}"
                     f"{validation.meant(name, METRICS)}")
