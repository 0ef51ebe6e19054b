"""Neural matrix factorization: a network on the vectors of user and item."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.models.fusion import Architecture, Known, Side, flat
from mfcore.models.monitoring import Callback, Watched, monitor_of
from mfcore.models.neural_options import check
from mfcore.models.neural_serving import NeuralServing
from mfcore.models.pretrained import check_groups, check_pretrained, groups_of, start_from
from mfcore.nn.layers import Layer, Linear
from mfcore.nn.losses import Loss, logistic, squared
from mfcore.nn.network import Blocks, Trainer, blocks_of
from mfcore.nn.optimizers import Optimizer, inverse_decay, optimizer
from mfcore.objectives.biases import mean_biases
from mfcore.parallel import Pool
from mfcore.solvers.loop import run
from mfcore.solvers.neural import NeuralSGD, TrainingCells

Self = TypeVar("Self", bound="NeuralMF")


class NeuralMF(NeuralServing):
    """Score pairs by a network on vectors of user and item: s_ui = B_ui + f(P_u, Q_i).

    Minimises, by mini-batch gradient steps on all parameters at once,

        Σ_known w [ (r − s)² + λ (‖P_u‖² + ‖Q_i‖²) + λᵇ (b_u² + b̃_i²) ]          "squared"
        Σ_known w ℓ(s, [r > 0]) + w0 Σ_unknown ℓ(s, 0) + penalties alike         "logistic"

    with ℓ(s, y) = ln(1 + e^s) − y s.  Unknown cells are drawn, with weights that make the
    expected gradient that of the formula; every drawn cell pays the penalty of its rows.

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of each vector.
    loss : {"squared", "logistic"}
        For ratings; for what was chosen, as a ranking.
    fusion : {"gmf+mlp", "concat", "product"}
        f = a·[p ∘ q | MLP([p' | q'])] + c with vectors of their own in each branch;
        MLP([p | q]); or MLP(p ∘ q).
    hidden : tuple of int
        Widths of the MLP's hidden layers; () for a linear one.
    activation : str
        Of the hidden layers, such as "relu", "tanh" or "swish".
    dropout : float in [0, 1)
        Share of the inputs of each hidden layer that is left out in training.
    bias : {"learned", "mean", None}
        B_ui: μ with learned b_u and b̃_i; with half the mean deviation of user and of item;
        alone.  μ is the mean rating, 0 for "logistic".
    n_negatives : int, >= 1
        Unknown cells drawn for each known one ("logistic").
    unknown_weight : "drawn", "balanced", or float >= 0
        w0, the weight of every unknown cell; "drawn": such that a drawn one weighs 1;
        "balanced" gives all of them together the total weight of the known ones.
    freeze : bool
        With `pretrained`: vectors and biases stay as they are, f alone is learned.
    reg : float, >= 0
        λ, paid for each cell.
    bias_reg : float >= 0, or None
        λᵇ; None: `reg`.
    features, feature_reg, history_reg
        As in `MatrixFactorization`: with features F of users, P_u = U_u + F_u G, and λ is paid
        for U_u, λ_g ‖G‖² once; biases and items alike.
    weight_decay : float, >= 0
        Penalty of the network's weights, added to each step's gradient (for "adamw"
        beside it).
    optimizer : {"adam", "adamw", "sgd", "momentum", "nesterov", "adagrad", "rmsprop"}
    lazy : bool
        Whether rows that a batch does not use, and their moments, stay as they are.
    learning_rate : float, > 0
        η, length of a step.
    decay : float, >= 0
        The rate of step t is learning_rate / (1 + decay·t / steps of an epoch).
    batch_size : int, >= 1
        Known cells of a batch.
    clip : float > 0, or None
        Longest gradient; longer ones are scaled down.
    init_scale : float, > 0
        Vectors start normal with standard deviation init_scale / √k.
    n_epochs, tol, patience, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10" for "logistic".

    Notes
    -----
    `fit(ratings, pretrained=...)` starts from a fitted model: see `models/pretrained.py`.
    A new user's vector takes a fixed number of gradient steps from the mean, all else frozen.

    References
    ----------
    He, Liao, Zhang, Nie, Hu, Chua 2017.
    """

    def __init__(self, n_factors: int = 64, *, loss: str = "squared", fusion: str = "gmf+mlp",
                 hidden: tuple[int, ...] = (32,), activation: str = "relu",
                 dropout: float = 0.2, bias: str | None = "learned", n_negatives: int = 4,
                 unknown_weight: float | str = "drawn", freeze: bool = False,
                 reg: float = 0.02, bias_reg: float | None = 0.01,
                 features: str = "learned", feature_reg: float = 100.0,
                 history_reg: float = 100.0, weight_decay: float = 0.0,
                 optimizer: str = "adam", lazy: bool = True, learning_rate: float = 1e-3,
                 decay: float = 0.0, batch_size: int = 1024, clip: float | None = None,
                 init_scale: float = 0.1, n_epochs: int = 8, tol: float | None = None,
                 patience: int | None = None, eval_metric: str | None = None,
                 dtype: str = "float32", random_state: Any = None,
                 n_threads: int | None = None, verbose: int = 0) -> None:
        self.n_factors = n_factors
        self.loss = loss
        self.fusion = fusion
        self.hidden = hidden
        self.activation = activation
        self.dropout = dropout
        self.bias = bias
        self.n_negatives = n_negatives
        self.unknown_weight = unknown_weight
        self.freeze = freeze
        self.reg = reg
        self.bias_reg = bias_reg
        self.features = features
        self.feature_reg = feature_reg
        self.history_reg = history_reg
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.lazy = lazy
        self.learning_rate = learning_rate
        self.decay = decay
        self.batch_size = batch_size
        self.clip = clip
        self.init_scale = init_scale
        self.n_epochs = n_epochs
        self.tol = tol
        self.patience = patience
        self.eval_metric = eval_metric
        self.dtype = dtype
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    @property
    def _rates(self) -> bool:                                   # type: ignore[override]
        return self.loss == "squared"

    # ---------------------------------------------------------------------- checks

    def _validate(self) -> None:
        super()._validate()
        check(self)

    def _given_features(self, ratings: Ratings, user_features: Any, item_features: Any
                        ) -> tuple[Features | None, Features | None]:
        found = super()._given_features(ratings, user_features, item_features)
        if self.freeze and self.features == "learned":
            check_groups(self._pretrained, found)
        return found

    # -------------------------------------------------------------------- training

    def fit(self: Self, ratings: Any, y: Any = None, *, pretrained: Any = None,
            user_features: Any = None, item_features: Any = None, eval_set: Any = None,
            callbacks: Sequence[Callback] = (), checkpoint: Any = None) -> Self:
        """Learn from ratings and return self.

        Parameters
        ----------
        ratings, y
            As in `MatrixFactorization.fit`.
        pretrained : fitted factorization, pair of NeuralMF, or None
            Where vectors and biases start: a `MatrixFactorization`, `ImplicitMF` or `BPR` of
            the same users and items; or, for fusion="gmf+mlp", NeuralMF(fusion="product",
            hidden=()) and NeuralMF(fusion="concat") of the same `hidden`.
        user_features, item_features, eval_set, callbacks, checkpoint
            As in `MatrixFactorization.fit`.
        """
        self._pretrained = pretrained
        try:
            return super().fit(ratings, y, user_features=user_features,
                               item_features=item_features, eval_set=eval_set,
                               callbacks=callbacks, checkpoint=checkpoint)
        finally:
            del self._pretrained

    def _check_training(self, ratings: Ratings) -> None:
        if self._pretrained is not None:
            check_pretrained(self._pretrained, self._architecture(), ratings)
        elif self.freeze:
            raise ValueError("freeze=True keeps the vectors of a pretrained model: give one, "
                             "fit(ratings, pretrained=model)")

    def _train(self, ratings: Ratings, watched: Watched) -> None:
        random = np.random.default_rng(self.random_state)
        if not self._rates:
            self.unknown_weight_ = self._weight_of_unknown(ratings)
        users, items, head = self._start(ratings, random)
        self._parts = (users, items, head)
        cells = self._cells(ratings)
        network = self._network(users, items, head, cells.n_visited)
        trainer = Trainer(network, self._loss, self._optimizer(len(cells.y)),
                          seed=int(random.integers(2**63)), most=self.clip or np.inf)
        solver = NeuralSGD(cells, trainer, self.batch_size, seed=int(random.integers(2**63)))
        at = blocks_of(network.parameters())
        self._publish(at)
        monitor = monitor_of(self, watched)
        try:
            with Pool(self.n_threads) as pool:
                run(solver, at, pool, self.n_epochs, monitor)
        finally:
            self._publish(at)
            self._average_groups(np.dtype(self.dtype), self.bias == "learned")
            del self._parts

    def _start(self, ratings: Ratings, random: np.random.Generator
               ) -> tuple[Side, Side, list[Linear]]:
        """Return the tables and the head at the start, and set μ."""
        shape = self._architecture()
        self.global_mean_ = self.mean_rating_ if self._rates else 0.0
        if self._pretrained is not None:
            users, items, head, self.global_mean_ = start_from(self._pretrained, shape, random)
        else:
            users, items = (shape.drawn(name, n, self.init_scale, random)
                            for name, n in zip(("user", "item"), ratings.shape, strict=True))
            head = shape.head(random)
        if self.bias == "mean" and self._pretrained is None:
            for side, bias in zip((users, items), mean_biases(ratings, self.mean_rating_, 0.5),
                                  strict=True):
                side.tables[-1].value[:, 0] = bias
        users, items = self._grouped("user", users), self._grouped("item", items)
        for side in (users, items):
            for each in side.parameters():
                each.frozen = self.freeze
            if self.bias == "mean":
                side.tables[-1].frozen = True
        return users, items, head

    def _grouped(self, name: str, side: Side) -> Side:
        """Return a side with vectors of its features, if they are to be learned."""
        part: Features | None = getattr(self, f"{name}_features_")
        if part is None or self.features == "average":
            return side
        shape = self._architecture()
        known = Known(part.matrix, self._feature_regs(part),
                      *groups_of(self._pretrained, name, part, shape.n_tables))
        return shape.grouped(name, side, known, self.bias == "learned")

    def _publish(self, at: Blocks) -> None:
        shape, (users, items, head) = self._architecture(), self._parts
        self.weights_ = flat(head)
        for name, side in (("user", users), ("item", items)):
            if self._rates or self.unknown_weight_ == 0:
                side.settle(getattr(self, f"{name}_counts_") == 0)
            setattr(self, f"{name}_factors_", shape.factors(side))
            setattr(self, f"{name}_bias_", shape.bias(side))
            if side.groups:
                factors, bias = shape.group_vectors(side)
                setattr(self, f"{name}_feature_factors_", factors)
                setattr(self, f"{name}_feature_bias_", bias)

    # ------------------------------------------------------- what parameters mean

    def _architecture(self) -> Architecture:
        return Architecture(self.fusion, self.n_factors, tuple(self.hidden), self.activation,
                            self.dropout, self.bias is not None, np.dtype(self.dtype))

    def _network(self, users: Side, items: Side, head: list[Linear], n_visited: int = 1) -> Layer:
        bias_reg = self.reg if self.bias_reg is None else self.bias_reg
        return self._architecture().network(users, items, head, self.reg, bias_reg, n_visited)

    @property
    def _loss(self) -> Loss:
        return squared if self._rates else logistic

    def _optimizer(self, n_cells: int) -> Optimizer:
        per_step = self.decay / max(1, -(-n_cells // self.batch_size))
        return optimizer(self.optimizer, self.learning_rate, decay=self.weight_decay,
                         lazy=self.lazy, schedule=inverse_decay(per_step))

    def _cells(self, ratings: Ratings) -> TrainingCells:
        real, values = np.dtype(self.dtype), ratings.by_user.data
        w = None if ratings.weights is None else ratings.weights.astype(real)
        if self._rates:
            return TrainingCells(ratings.by_user, (values - self.global_mean_).astype(real), w)
        return TrainingCells(ratings.by_user, (values > 0).astype(real), w, self.n_negatives,
                     self.unknown_weight_)

    def _weight_of_unknown(self, ratings: Ratings) -> float:
        """Return w0."""
        if not isinstance(self.unknown_weight, str):
            return float(self.unknown_weight)
        n_unknown = ratings.shape[0] * ratings.shape[1] - ratings.nnz
        known = ratings.nnz if ratings.weights is None else ratings.weights.sum(dtype=np.float64)
        times = {"balanced": 1, "drawn": self.n_negatives}[self.unknown_weight]
        return float(times * known / max(n_unknown, 1))
