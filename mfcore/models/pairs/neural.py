"""Neural matrix factorization: a network on the vectors of user and item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.data.features import weighed
from mfcore.data.ratings import Ratings
from mfcore.models.fitted import answered_unless
from mfcore.models.pairs.core import Network
from mfcore.models.pairs.fusion import FUSIONS, Architecture, Known, Tables, flat
from mfcore.models.pairs.pretrained import (
    check_groups,
    check_pretrained,
    groups_of,
    start_from,
    without,
)
from mfcore.models.recommender import Recommender
from mfcore.models.settings import TRAINED, fitted, setting, settings
from mfcore.models.sides import FeaturedSide, Sides
from mfcore.models.stopping import AUTO, Budget, Callback
from mfcore.models.training import Start, train
from mfcore.nn.activations import FORMULAS
from mfcore.nn.layers import Linear
from mfcore.nn.losses import Loss, logistic, squared
from mfcore.nn.network import Trainer, blocks_of
from mfcore.nn.optimizers import OPTIMIZERS, Optimizer, inverse_decay, optimizer
from mfcore.objectives.biases import fitted_biases, log_odds, mean_biases
from mfcore.solvers.neural import NeuralSGD, TrainingCells

Self = TypeVar("Self", bound="NeuralMF")
# Learning rates: of a first stage, and of one that goes on from a fitted model.
RATES = 1e-3, 3e-4


def check_loss(model: Any) -> None:
    """Raise for a bias that does not go with the loss."""
    if model.bias == "mean" and model.loss == "logistic":
        raise ValueError("bias='mean' has no meaning with loss='logistic': use 'learned'")


@settings(*TRAINED)
class NeuralMF(Recommender):
    """Score pairs by a network on vectors of user and item: s_ui = μ + B_ui + σ f(P_u, Q_i).

    Minimises, by mini-batch gradient steps on all parameters at once,

        Σ_known w [ (r − s)²/σ² + λ (‖P_u‖² + ‖Q_i‖²) + λᵇ (b_u² + b̃_i²)/σ² ]    "squared"
        Σ_known w ℓ(s, [r > 0]) + w0 Σ_unknown ℓ(s, 0) + the same penalties      "logistic"

    with ℓ(s, y) = ln(1 + e^s) − y s.  For "squared" μ and σ are the mean and the standard deviation
    of the training ratings (`rating_scale_`): a network is trained on (r − μ)/σ, and the parameters
    below are for these.  For "logistic" μ and σ are 0 and 1.  Unknown cells are drawn, with weights
    that make the expected gradient that of the formula; every drawn cell pays the penalty of its
    rows.

    Parameters
    ----------
    n_factors : int, >= 1
        Length k of each vector; 8 to 64 for a network as small as this one.
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
        B_ui: learned b_u + b̃_i; half the mean deviation of user and of item; 0.
    n_negatives : int, >= 1
        Unknown cells drawn for each known one ("logistic"): 4 to 8; the time grows with it.
    unknown_weight : "drawn", "balanced", or float >= 0
        w0, the weight of every unknown cell; "drawn": such that a drawn one weighs 1;
        "balanced" gives all of them together the total weight of the known ones.
    freeze : bool
        With `pretrained`: vectors and biases stay as they are, f alone is learned.
    reg : float, >= 0
        λ, paid for each cell; of the squared loss in units of the ratings' variance.
    bias_reg : float >= 0, or None
        λᵇ; None: `reg`.
    features, feature_reg, history_reg
        As in `MatrixFactorization`: with features F of users, P_u = U_u + F_u G, and λ is paid
        for U_u, λ_g ‖G‖² once; the same for biases and items.
    weight_decay : float, >= 0
        Penalty of the network's weights, added to each step's gradient (for "adamw"
        beside it).
    optimizer : {"adam", "adamw", "sgd", "momentum", "nesterov", "adagrad", "rmsprop"}
    lazy : bool
        Whether rows that a batch does not use, and their moments, stay as they are.
    learning_rate : float > 0, or "auto"
        η, length of a step; "auto": 0.001, and 0.0003 from a pretrained model, which a longer step
        would leave at once.
    decay : float, >= 0
        The rate of step t is learning_rate / (1 + decay·t / steps of an epoch).
    batch_size : int, >= 1
        Known cells of a batch: larger is faster, and takes a larger learning rate.
    clip : float > 0, or None
        Longest gradient; longer ones are scaled down.  Try 1 to 10 where the loss jumps.
    init_scale : float, > 0
        Vectors start normal with standard deviation init_scale / √k.
    n_epochs : int >= 1, or "auto"
        Passes over the ratings.  "auto": as many as a held-out tenth finds to be best, within a
        budget of steps (`budget`); where that is fewer than 100 ratings, the steps that do
        without.  An integer holds nothing out, unless `validation` is given.
    tol, patience, validation, refit, eval_metric, dtype, random_state, n_threads, verbose
        As in `MatrixFactorization`; eval_metric defaults to "ndcg@10" for "logistic".

    Notes
    -----
    `fit(ratings, pretrained=...)` starts from a fitted model: see `models/pairs/pretrained.py`.
    Where epochs are searched for, that model counts as epoch 0, as do the biases of `BiasOnly`
    where ratings are learned without one: they stay if no epoch is better.
    A new user's vector takes a fixed number of gradient steps from the mean, all else frozen.
    Scores of pairs, and of new users, are the same alone and in a batch up to rounding.

    References
    ----------
    He, Liao, Zhang, Nie, Hu, Chua 2017.

    See Also
    --------
    MatrixFactorization : The inner product, which is hard to beat; `pretrained=` starts from one.

    Examples
    --------
    >>> from mfcore import NeuralMF, evaluate, fetch
    >>> from mfcore.data.split import per_user_split
    >>> stars = fetch("planted-stars").ratings
    >>> train, test = per_user_split(stars, test_size=0.2, random_state=0)
    >>> model = NeuralMF(8, n_epochs=8, random_state=0).fit(train)
    >>> round(evaluate(model, test, metrics=["rmse"])["rmse"], 1)
    0.8
    """

    n_factors: int = setting(default=64, low=1, kw_only=False)
    loss: str = setting(default="squared", among=("squared", "logistic"))
    fusion: str = setting(default="gmf+mlp", among=FUSIONS)
    hidden: tuple[int, ...] = setting(default=(32,), check=validation.widths)
    activation: str = setting(default="relu", among=FORMULAS)
    dropout: float = setting(default=0.2, check=validation.rate)
    bias: str | None = setting(default="learned", among=("learned", "mean", None))
    n_negatives: int = setting(default=4, low=1)
    unknown_weight: float | str = setting(default="drawn", low=0, among=("drawn", "balanced"))
    freeze: bool = False
    reg: float = setting(default=0.02, low=0)
    bias_reg: float | None = setting(default=0.01, low=0)
    features: str = setting(default="learned", among=("learned", "average"))
    feature_reg: float = setting(default=100.0, above=0)
    history_reg: float = setting(default=100.0, above=0)
    weight_decay: float = setting(default=0.0, low=0)
    optimizer: str = setting(default="adam", among=[name for name in OPTIMIZERS if name != "rprop"])
    lazy: bool = True
    learning_rate: float | str = setting(default="auto", above=0, high=1e3, among=("auto",))
    decay: float = setting(default=0.0, low=0)
    batch_size: int = setting(default=1024, low=1)
    clip: float | None = setting(default=None, above=0)
    init_scale: float = setting(default=0.1, low=0, high=1e3, above=0)
    n_epochs: int | str = setting(default="auto", low=1, among=(AUTO,))

    weights_: np.ndarray = fitted(doc="All numbers of f, one vector.")

    # Chosen on validation parts: see benchmarks/epochs.py.
    budget = Budget(enough=800, patience=200, epochs=(2, 20), most=40)

    side_type = FeaturedSide
    together = (check_loss,)

    @property
    def predicts_ratings(self) -> bool:
        """Whether `predict` is on the scale of the ratings."""
        return self.loss == "squared"

    def fit(self: Self, ratings: Any, y: Any = None, *, sample_weight: Any = None,
            pretrained: Any = None, user_features: Any = None, item_features: Any = None,
            eval_set: Any = None, callbacks: Sequence[Callback] = (),
            checkpoint: Any = None) -> Self:
        """Learn from ratings and return self.

        Parameters
        ----------
        ratings, y, sample_weight
            As in `MatrixFactorization.fit`.
        pretrained : fitted factorization, pair of NeuralMF, or None
            Where vectors and biases start: a `MatrixFactorization`, `ImplicitMF` or `BPR` of
            the same users and items; or, for fusion="gmf+mlp", NeuralMF(fusion="product",
            hidden=()) and NeuralMF(fusion="concat") of the same `hidden`.
        user_features, item_features, eval_set, callbacks, checkpoint
            As in `MatrixFactorization.fit`.
        """
        train(self, ratings, y, sample_weight=sample_weight, user_features=user_features,
              item_features=item_features, eval_set=eval_set, callbacks=callbacks,
              checkpoint=checkpoint, pretrained=pretrained)
        return self

    def check(self, ratings: Ratings, pretrained: Any = None) -> None:
        """Raise for a pretrained model that the network cannot start from."""
        if pretrained is not None:
            check_pretrained(pretrained, self.architecture(), ratings)
        elif self.freeze:
            raise ValueError("freeze=True keeps the vectors of a pretrained model: give one, "
                             "fit(ratings, pretrained=model)")

    def check_grown(self, ratings: Ratings) -> None:
        """Accept all ratings: a network has learned, from a pretrained model or without one.

        Parameters
        ----------
        ratings : Ratings
            Old and new ones together.
        """

    def unaware(self, held: Ratings, pretrained: Any = None, **own: Any) -> dict[str, Any]:
        """Return what `fit` was given besides, a pretrained model fitted without held-out ratings.
        """
        return {**own, "pretrained": None if pretrained is None else without(pretrained, held)}

    # -------------------------------------------------------------------- training

    def begin(self, ratings: Ratings, sides: Sides, random: np.random.Generator,
              pretrained: Any = None) -> Start:
        """Return where a fit begins, and what improves it."""
        if self.freeze and self.features == "learned":
            check_groups(pretrained, sides)
        if not self.predicts_ratings:
            self.unknown_weight_ = self._weight_of_unknown(ratings)
        users, items, head = self._start(ratings, sides, random, pretrained)
        cells = self._cells(ratings)
        network = self.architecture().network(users, items, head, self.reg, self._bias_reg,
                                              cells.n_visited)
        rate = RATES[pretrained is not None] if isinstance(self.learning_rate, str) else \
            self.learning_rate
        trainer = Trainer(network, self._loss, self._optimizer(len(cells.y), rate),
                          seed=int(random.integers(2**63)), most=self.clip or np.inf)
        solver = NeuralSGD(cells, trainer, self.batch_size, seed=int(random.integers(2**63)))

        shape, settles = self.architecture(), not self._weighs_unknown

        def publish(at: Any) -> None:
            self.weights_ = shape.publish(sides, (users, items), head, self.rating_scale_, settles)

        def finish(at: Any) -> None:
            for side in sides:
                side.average(self.bias == "learned")

        at = blocks_of(network.parameters())
        return Start(solver, at, publish, finish, at.copy if pretrained is not None else
                     self._biases_alone(ratings, (users, items), head[-1], at))

    def _biases_alone(self, ratings: Ratings, both: tuple[Tables, Tables], output: Linear,
                      at: Any) -> Callable[[], Any] | None:
        """Return what returns the start with f = 0 and biases alone; None: it has none.

        They are those of `BiasOnly`, or the log-odds of items.
        """
        def simple() -> Any:
            start, output.W.value[...] = output.W.value.copy(), 0
            self._set_biases(both, fitted_biases(ratings, self.mean_rating_)
                             if self.predicts_ratings else
                             (0, log_odds(ratings, self.unknown_weight_)))
            found = at.copy()
            self._set_biases(both, (0, 0))
            output.W.value[...] = start
            return found

        return simple if self.bias == "learned" else None

    def _set_biases(self, both: tuple[Tables, Tables], biases: tuple[Any, Any]) -> None:
        for tables, bias in zip(both, biases, strict=True):
            tables.tables[-1].value[:, 0] = bias / self.rating_scale_

    def _start(self, ratings: Ratings, sides: Sides, random: np.random.Generator,
               pretrained: Any) -> tuple[Tables, Tables, list[Linear]]:
        """Return the tables and the head at the start, and set μ."""
        shape = self.architecture()
        self.global_mean_ = self.mean_rating_ if self.predicts_ratings else 0.0
        if pretrained is not None:
            users, items, head, self.global_mean_ = start_from(pretrained, shape,
                                                               self.rating_scale_, random)
        else:
            users, items, head = shape.start(sides, self.init_scale, random)
        if self.bias == "mean" and pretrained is None:
            self._set_biases((users, items), mean_biases(ratings, self.mean_rating_, 0.5))
        users, items = (self._grouped(side, tables, pretrained)
                        for side, tables in zip(sides, (users, items), strict=True))
        for tables in (users, items):
            for each in tables.parameters() if self.freeze else tables.tables[-1:]:
                each.frozen = self.freeze or self.bias == "mean"
        return users, items, head

    def _grouped(self, side: FeaturedSide, tables: Tables, pretrained: Any) -> Tables:
        """Return tables with vectors of the features of a side, if they are to be learned."""
        if side.features is None or self.features == "average":
            return tables
        shape = self.architecture()
        known = Known(side.features.matrix, side.feature_regs(self.feature_reg, self.history_reg),
                      *groups_of(pretrained, side.name, side.features, shape.n_tables,
                                 self.rating_scale_))
        return shape.grouped(side.name, tables, known, self.bias == "learned")

    # ------------------------------------------------------- what parameters mean

    def architecture(self) -> Architecture:
        """Return what decides the shapes of the network."""
        return Architecture(self.fusion, self.n_factors, tuple(self.hidden), self.activation,
                            self.dropout, self.bias is not None, np.dtype(self.dtype))

    def widths(self) -> dict[str, int]:
        """Return the lengths that hyper-parameters give to axes of fitted arrays, by name."""
        shape = self.architecture()
        return {"factor": shape.width, "weight": flat(shape.head(np.random.default_rng(0))).size}

    def n_steps(self, ratings: Ratings) -> int:
        """Return the steps of an epoch."""
        return -(-ratings.nnz // self.batch_size)

    def answers(self) -> Network:
        """Return what is asked of the fitted model."""
        return Network(self.architecture(), self.users_, self.items_, self.weights_,
                       self.global_mean_, self.mean_rating_, self.rating_scale_, self.bias,
                       self.reg, self._bias_reg, self._loss, self._cells, answered_unless(self))

    @property
    def _bias_reg(self) -> float:
        return self.reg if self.bias_reg is None else self.bias_reg

    @property
    def _loss(self) -> Loss:
        return squared if self.predicts_ratings else logistic

    def _optimizer(self, n_cells: int, rate: float) -> Optimizer:
        per_step = self.decay / max(1, -(-n_cells // self.batch_size))
        return optimizer(self.optimizer, rate, decay=self.weight_decay,
                         lazy=self.lazy, schedule=inverse_decay(per_step))

    @property
    def _weighs_unknown(self) -> bool:
        return not self.predicts_ratings and self.unknown_weight_ > 0

    def _cells(self, ratings: Ratings) -> TrainingCells:
        told = ratings if self._weighs_unknown else weighed(ratings)
        ratings = told if told.nnz else ratings
        real, values = np.dtype(self.dtype), ratings.by_user.data
        w = None if ratings.weights is None else ratings.weights.astype(real)
        if self.predicts_ratings:
            targets = (values - self.global_mean_) / self.rating_scale_
            return TrainingCells(ratings.by_user, targets.astype(real), w)
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
