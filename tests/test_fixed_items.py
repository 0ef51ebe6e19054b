"""The network with its items fixed: the scores and the users' gradients of the network itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mfcore.models.pairs.fusion import Architecture, fixed_items
from mfcore.nn.check import check_layer
from mfcore.nn.layers import Embedding, Run
from mfcore.nn.pairs import RowsDot
from mfcore.nn.parameters import Parameter

PAIRS = np.array(list(product(range(5), range(7))))[::2]


@pytest.mark.parametrize(("fusion", "hidden"), [
    ("concat", (5, 4)), ("concat", ()), ("product", (4,)), ("product", ()),
    ("gmf+mlp", (5, 4)), ("gmf+mlp", (5,)), ("gmf+mlp", ())])
@pytest.mark.parametrize("biased", [True, False])
def test_lines_of_items_give_the_scores_and_gradients_of_the_network(fusion, hidden, biased):
    random = np.random.default_rng(0)
    shape = Architecture(fusion, 3, hidden, "tanh", 0.4, biased, np.dtype(np.float64))
    users, items = shape.drawn("user", 5, 1.0, random), shape.drawn("item", 7, 1.0, random)
    head = shape.head(random)
    for each in (*users.tables, *items.tables, *(p for layer in head for p in layer.parameters())):
        each.value += 0.3 * random.normal(size=each.value.shape)
    dy, found = random.normal(size=(len(PAIRS), 1)), []
    for network in (shape.network(users, items, head, 0.7, 0.3),
                    fixed_items(shape, items, head).network(users, 0.7, 0.3)):
        run = Run(share=0.4)
        y, cache = network.forward(PAIRS, run)
        network.backward(dy, cache, run)
        found.append([y, *(run.gradients.dense(table) for table in users.tables)])
        assert biased or len(users.tables) == shape.n_tables
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert not [p for p in run.gradients if p not in users.tables]


@pytest.mark.kernel
def test_products_with_fixed_lines_have_the_gradient_of_their_value():
    random = np.random.default_rng(0)
    x = random.integers(-1, 4, (30, 2))
    layer = RowsDot(Embedding(Parameter("table", random.normal(size=(4, 3))), 0, reg=0.7),
                    (random.normal(size=(4, 3)), 1))
    y, _ = layer.forward(x, Run())
    T, C = (np.vstack([block, np.zeros(3)]) for block in (layer.embedding.table.value,
                                                          layer.fixed[0]))
    np.testing.assert_allclose(y[:, 0], (T[x[:, 0]] * C[x[:, 1]]).sum(axis=1))
    assert check_layer(layer, x).ok
