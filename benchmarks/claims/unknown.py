"""A weight on unknown cells reduces folding.

Folding: recommendations to one audience out of the catalogue of another with which it has nothing
in common.  Settings are chosen by NDCG@10, without a look at audiences.  A weight on unknown cells
does two things, it pulls scores together and it pulls them down to a value; arms with a bias and no
weight, and with the unknown held at the bias, tell the two apart.
"""

from __future__ import annotations

from benchmarks.claims.space import Between
from benchmarks.claims.splits import lists
from benchmarks.claims.study import Arm, Claim, Comparison, Task
from mfcore import MatrixFactorization, evaluate

BASE = {"n_factors": 16, "n_epochs": 10, "reg": Between(0.3, 6)}
WEIGHT = Between(0.001, 1, always=True)
SPACES = {
    "no weight, no bias": {"bias": None},
    "no weight, mean bias": {"bias": "mean"},
    "no weight, learned bias": {"bias": "learned"},
    "to 0, no bias": {"bias": None, "unknown_weight": WEIGHT},
    "to 0, learned bias": {"bias": "learned", "unknown_weight": WEIGHT},
    "to the bias": {"bias": "mean", "unknown_weight": WEIGHT, "unknown_value": "bias"},
    "in balance": {"bias": None, "unknown_weight": "balanced"},
    "weight 0.001": {"bias": None, "unknown_weight": 0.001},
    "weight 1": {"bias": None, "unknown_weight": 1.0},
}
FIGURES = {"ndcg@10": "ndcg@10", "cross_group_rate@10": "cross", "folding@10": "folding",
           "spurious_rate@10": "spurious"}


def measure(task: Task) -> dict[str, float]:
    """Return NDCG@10; in the end the true share of other audiences, and measures of it."""
    train, test, data = task.split.train, task.split.test, task.split.data
    model = MatrixFactorization(**task.settings, random_state=task.seed, n_threads=1).fit(train)
    asked = list(FIGURES) if task.final and data.user_groups is not None else ["ndcg@10"]
    values = evaluate(model, test, metrics=asked, n_threads=1,
                      groups=(data.user_groups, data.item_groups))
    return {FIGURES[name]: value for name, value in values.items()}


def compared(first: str, second: str, metric: str, says: str, decides: bool = False) -> Comparison:
    """Return a comparison of two arms."""
    return Comparison(says, first, second, metric, decides=decides)


CLAIM = Claim(
    name="unknown", says="Weighting the unknown reduces folding.",
    hypothesis="It does, by far, and ranks better too; a bias without a weight does not, and a "
               "weight that holds unknown cells at the bias does less.",
    data=("planted-audiences", "ml-100k+online-retail"),
    also=("movietweetings-100k+online-retail",), asked=("ml-1m+online-retail",),
    fold=lists, measure=measure,
    arms={name: Arm(BASE | space, "ndcg@10") for name, space in SPACES.items()},
    comparisons=[
        compared("to 0, no bias", "no weight, no bias", "cross",
                 "a weight keeps audiences apart, without biases", True),
        compared("to 0, learned bias", "no weight, learned bias", "cross",
                 "a weight keeps audiences apart, with learned biases", True),
        compared("to 0, no bias", "no weight, no bias", "folding", "the measure of folding agrees"),
        compared("to 0, no bias", "no weight, no bias", "ndcg@10", "a weight ranks better"),
        compared("no weight, mean bias", "no weight, no bias", "cross", "centring alone helps"),
        compared("to the bias", "no weight, mean bias", "cross",
                 "a weight helps where the unknown is held at the bias"),
        compared("to 0, no bias", "to the bias", "cross", "0 is better than the bias"),
        compared("in balance", "to 0, no bias", "ndcg@10", "balance is as good a weight as any"),
        compared("weight 1", "weight 0.001", "cross", "the heavier the weight, the less folding"),
        compared("weight 1", "weight 0.001", "ndcg@10", "the heavier the weight, the better"),
    ],
    units={"ndcg@10": "0 to 1", "cross": "share of the first ten", "folding": "0 to 1",
           "spurious": "share of the first ten"},
    answer="Yes, by far, where biases are learned. Without biases there is next to "
           "nothing to reduce, whatever the weight: it is centring that folds.",
    found="Where scores are measured from the mean, a score of 0 means the mean, and an "
          "unrelated item is as good as a rated one. A weight that holds the unknown at the "
          "bias reduces folding by little, on MovieTweetings alone. Without biases the weight "
          "still ranks better, most on real data; a weight in balance with the known is as good "
          "on generated data and much worse on real ones.")
