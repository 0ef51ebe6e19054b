"""The public models as data: where each is found, its name on the command line, what it can do.

`mfcore/__init__.py`, storage, the command line with its help, and the documentation read this
table and keep no list of their own.  It imports nothing, so that reading it costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

# What can be asked of a model, and what the documentation calls it.
ABILITIES = {
    "weights": "weights of ratings",
    "user_features": "user features",
    "item_features": "item features",
    "fold_in_users": "fold-in of users",
    "fold_in_items": "fold-in of items",
    "partial_fit": "`update`, `partial_fit`",
    "new_items": "new items by `update`",
    "forget": "`forget` users",
    "forget_items": "`forget` items",
    "explain": "`explain`",
    "objective": "`objective`",
    "similar_items": "`similar_items`",
    "similar_users": "`similar_users`",
    "index_vectors": "`index_vectors`",
    "checkpoint": "checkpoints",
}

# How a model says that it lacks one of them; {name} is the name of its class.
SENTENCES = {
    "weights": "{name} takes no weights of single cells: leave them out",
    "user_features": "{name} takes no user_features; MatrixFactorization and ImplicitMF do",
    "item_features": "{name} takes no item_features; MatrixFactorization and ImplicitMF do",
    "new_user_features": "{name} takes no user_features",           # of users that are new
    "fold_in_items": "{name} cannot fold in items: a new item is learned by a fit",
    "partial_fit": "{name} cannot be refitted in part: recommend(ratings=...) serves new rows, "
                   "fit learns them",
    "new_items": "{name} cannot take new items in or solve them again: refit it, fit(...), with "
                 "all ratings; "
                 "update(..., unknown='ignore') takes in what is new of the items it knows",
    "forget": "{name} cannot forget users: refit it, fit(...), without their ratings",
    "forget_items": "{name} cannot forget items: recommend(exclude_items=...) leaves them out of "
                    "lists, a fit without them leaves them out of the model",
    "explain": "{name} cannot explain its scores by ratings",
    "objective": "{name} does not minimise the quadratic formula",
    "similar_groups": "{name} learns no vectors of groups; MatrixFactorization, ImplicitMF, "
                      "BayesianMF and NeuralMF do",
    "similar_items": "{name} has no factors to compare",
    "similar_users": "{name} has no factors to compare",
    "index_vectors": "{name} has no scores that are inner products: ask recommend",
    "checkpoint": "checkpoint must be None: a {name} fits several models",
}

ROWS = frozenset({"partial_fit", "forget"})                 # of users, while items stay
BOTH = ROWS | {"new_items", "forget_items"}

# Models whose user is a row of the ratings.
OF_ITEMS = ("EASE", "SparseEASE", "ItemKNN", "RP3Beta")
# Where a class has a reason of its own.
REASONS = {
    ("BPR", "weights"): "BPR takes no weights: leave them out, and leave out the cells "
                        "that should not count",
    **{(name, "index_vectors"): f"vectors of {name} are as long as the catalogue: ask recommend"
       for name in OF_ITEMS},
    **{(name, "similar_users"): f"{name} learns nothing of users; compare their rows"
       for name in OF_ITEMS},
    **{(name, "new_items"): f"{name} cannot be refitted in part: fit(...) it with all ratings"
       for name in ("GraphFilter", "Segmented")},
    ("Segmented", "index_vectors"): "Segmented has vectors of each segment: ask "
                                    "model.segment(label).index_vectors()",
    ("RatingAutoencoder", "index_vectors"): "scores are inner products with output='identity' "
                                            "alone: ask recommend",
    ("BayesianMF", "index_vectors"): "with likelihood='ordinal' items are ranked by expected "
                                     "ratings, which are no inner products: ask recommend",
    ("BayesianMF", "explain"): "with likelihood='ordinal' an expected rating is no sum over "
                               "ratings, so that explain has nothing to show",
    ("MatrixFactorization", "explain"): "with loss='logistic' a score is no sum over ratings, so "
                                        "that explain has nothing to show",
    **{("RatingAutoencoder", ability): "with orientation='item' the network has a size for each "
                                       "user: refit it, fit(...)" for ability in ROWS},
}

BASIC = frozenset({"fold_in_users", "similar_items", "similar_users", "checkpoint"})
ITEMS = BASIC - {"similar_users"} | ROWS | {"explain"}
FEATURES = frozenset({"user_features", "item_features"})
LINEAR = frozenset({"index_vectors"})


class Model(NamedTuple):
    """A public model.

    `predicts` says what `predict` returns: "ratings", on their scale, or "scores"; `limits` hold
    the conditions of abilities that depend on a parameter.
    """

    name: str
    module: str
    command: str
    summary: str
    predicts: str
    can: frozenset[str] = BASIC
    limits: Mapping[str, str] = {}

    def answer(self, ability: str) -> str:
        """Return "yes", "no" or the condition under which the model has an ability.

        Raises KeyError for an ability that is not listed.
        """
        if ability not in ABILITIES:
            raise KeyError(f"ability must be one of {', '.join(ABILITIES)}, got {ability!r}")
        return self.limits.get(ability, "yes" if ability in self.can else "no")


MODELS = {each.name: each for each in (
    Model("MatrixFactorization", "mfcore.models.factorization.matrix_factorization", "mf",
          "ratings, or likes, by vectors and biases", "ratings", frozenset(ABILITIES),
          {"explain": "with loss='squared'"}),
    Model("ImplicitMF", "mfcore.models.factorization.implicit", "implicit",
          "counts of plays, clicks or sales", "scores", frozenset(ABILITIES)),
    Model("BPR", "mfcore.models.ranking.bpr", "bpr", "the order of items, pair by pair", "scores",
          BASIC | ROWS | LINEAR | {"forget_items"}),
    Model("SoftmaxMF", "mfcore.models.ranking.softmax", "softmax",
          "what was chosen, against many others", "scores",
          BASIC | FEATURES | LINEAR | ROWS | {"forget_items"}),
    Model("BayesianMF", "mfcore.models.factorization.bayesian", "bayesian",
          "ratings, by the mean of many factorizations", "ratings",
          frozenset(ABILITIES) - {"objective"},
          dict.fromkeys(("index_vectors", "weights", "explain"), "with likelihood='gaussian'")),
    Model("NeuralMF", "mfcore.models.pairs.neural", "neural",
          "ratings or choices, by a network on vectors",
          "ratings with loss='squared', scores with loss='logistic'",
          BASIC | FEATURES | ROWS | {"weights", "forget_items"}),
    Model("EASE", "mfcore.models.items.ease", "ease", "choices, by all other items in closed form",
          "scores", ITEMS),
    Model("SparseEASE", "mfcore.models.items.sparse_ease", "sparseease",
          "choices, by the nearest other items", "scores", ITEMS),
    Model("ItemKNN", "mfcore.models.items.neighbours", "itemknn",
          "choices, by cosines of items", "scores", ITEMS),
    Model("RP3Beta", "mfcore.models.items.neighbours", "rpbeta",
          "choices, by random walks of three steps", "scores", ITEMS),
    Model("PureSVD", "mfcore.models.items.pure_svd", "puresvd",
          "choices, by leading singular vectors", "scores", BASIC | ROWS | LINEAR),
    Model("GraphFilter", "mfcore.models.items.graph_filter", "graphfilter",
          "choices, by a filter on their graph", "scores", BASIC | {"explain"}),
    Model("RatingAutoencoder", "mfcore.models.autoencoders.ratings", "autoencoder",
          "ratings, by a network on rows of ratings", "ratings", BASIC | {"weights"},
          {"index_vectors": "with output='identity'",
           **dict.fromkeys(ROWS, "with orientation='user'")}),
    Model("MultDAE", "mfcore.models.autoencoders.denoising", "multdae",
          "choices, by a denoising autoencoder", "scores", BASIC | ROWS | LINEAR),
    Model("MultVAE", "mfcore.models.autoencoders.variational", "multvae",
          "choices, by a variational autoencoder", "scores", BASIC | ROWS | LINEAR),
    Model("RecVAE", "mfcore.models.autoencoders.variational", "recvae",
          "choices, by a VAE with a composite prior", "scores", BASIC | ROWS | LINEAR),
    Model("BiasOnly", "mfcore.models.baselines", "bias", "ratings, by means of users and items",
          "ratings", BOTH | LINEAR | {"weights", "fold_in_users", "checkpoint"}),
    Model("Popularity", "mfcore.models.baselines", "popularity", "what most users have rated",
          "scores", BOTH | LINEAR | {"weights", "user_features", "fold_in_users", "checkpoint"}),
    Model("Segmented", "mfcore.models.segments.segmented", "segmented",
          "another model for each segment of users", "as its estimator",
          frozenset({"fold_in_users"}),
          {"user_features": "the field named by `by`",
           **dict.fromkeys(("weights", "item_features", "explain", "similar_items",
                            "similar_users"), "as its estimator")}),
)}


# What a class that is not listed is taken for.
OTHER = Model("", "", "", "", "scores", BASIC | FEATURES | LINEAR | {"weights"})


def entry(made: type) -> Model:
    """Return the entry of a class, or of the nearest class above it that has one."""
    return next((MODELS[base.__name__] for base in made.__mro__ if base.__name__ in MODELS), OTHER)


def lacks(made: type, ability: str) -> bool:
    """Return whether a class has no setting that can do something; see `Model.answer`."""
    return entry(made).answer(ability) == "no"


def sentence(made: type, ability: str) -> str:
    """Return the sentence with which a class says that it lacks an ability.

    Raises KeyError for an ability without one.
    """
    own = REASONS.get((entry(made).name, ability), SENTENCES[ability])
    return own.format(name=made.__name__)
