"""Recommenders of the matrix factorization family, derived by hand.

    from mfcore import MatrixFactorization, fetch
    data = fetch("ml-100k")
    model = MatrixFactorization(random_state=0).fit(data.ratings)
    items, scores = model.recommend([196], k=10)

Public names are resolved on first use (PEP 562), so that `import mfcore` reads no more
than NumPy and compiles nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# The one name resolved at once, as a module has it too: an import binds a submodule to its
# package once, when it is first loaded, and would hide the function if that came later.
from mfcore.gradcheck import gradcheck
from mfcore.models.registry import MODELS as _MODELS

if TYPE_CHECKING:
    from mfcore.data.datasets import fetch
    from mfcore.data.ratings import Ratings
    from mfcore.data.readers import read_ratings
    from mfcore.metrics.compare import compare
    from mfcore.metrics.evaluate import cross_validate, evaluate
    from mfcore.metrics.external import evaluate_lists
    from mfcore.metrics.rerank import rerank
    from mfcore.models.autoencoders.denoising import MultDAE
    from mfcore.models.autoencoders.ratings import RatingAutoencoder
    from mfcore.models.autoencoders.variational import MultVAE, RecVAE
    from mfcore.models.baselines import BiasOnly, Popularity
    from mfcore.models.factorization.bayesian import BayesianMF
    from mfcore.models.factorization.implicit import ImplicitMF
    from mfcore.models.factorization.matrix_factorization import MatrixFactorization
    from mfcore.models.items.ease import EASE
    from mfcore.models.items.graph_filter import GraphFilter
    from mfcore.models.items.neighbours import ItemKNN, RP3Beta
    from mfcore.models.items.pure_svd import PureSVD
    from mfcore.models.items.sparse_ease import SparseEASE
    from mfcore.models.pairs.neural import NeuralMF
    from mfcore.models.ranking.bpr import BPR
    from mfcore.models.ranking.softmax import SoftmaxMF
    from mfcore.models.segments.segmented import Segmented
    from mfcore.models.storage import load
    from mfcore.precompile import compile_kernels
    from mfcore.tuning.halving import tune

__version__ = "0.1.0"

__all__ = ["BPR", "EASE", "BayesianMF", "BiasOnly", "GraphFilter", "ImplicitMF", "ItemKNN",
           "MatrixFactorization", "MultDAE", "MultVAE", "NeuralMF", "Popularity", "PureSVD",
           "RP3Beta", "RatingAutoencoder", "Ratings", "RecVAE", "Segmented", "SoftmaxMF",
           "SparseEASE", "__version__", "compare", "compile_kernels", "cross_validate", "evaluate",
           "evaluate_lists", "fetch", "gradcheck", "load", "read_ratings", "rerank", "tune"]

_HOMES = {
    **{name: model.module for name, model in _MODELS.items()},
    "Ratings": "mfcore.data.ratings",
    "compare": "mfcore.metrics.compare",
    "compile_kernels": "mfcore.precompile",
    "cross_validate": "mfcore.metrics.evaluate",
    "evaluate": "mfcore.metrics.evaluate",
    "evaluate_lists": "mfcore.metrics.external",
    "fetch": "mfcore.data.datasets",
    "load": "mfcore.models.storage",
    "read_ratings": "mfcore.data.readers",
    "rerank": "mfcore.metrics.rerank",
    "tune": "mfcore.tuning.halving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mfcore' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
