"""The thirty days: what is bought, what counts as new, and what the table says."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import harness, tables, thirty_days


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(thirty_days.SIZES, "tiny", (300, 120, 6000))
    for name, value in {"DAYS": 4, "REQUESTS": 5, "TESTED": 20, "TOPICS": 6, "EVERY": 2,
                        "BORN": (0.1, 0.1), "stored": lambda name, make: make()}.items():
        monkeypatch.setattr(thirty_days, name, value)


def test_users_buy_from_their_topics_and_new_items_sell_best(tiny):
    shop = thirty_days.Shop(300, 120)
    shop.join(0, 60, 1)
    shop.appeal[:] = 1
    users, items = shop.purchases(20_000, 1)
    assert (shop.topics[users] == shop.topic[items][:, None]).any(axis=1).all()
    sold = np.bincount(items, minlength=180)
    assert sold[120:].mean() > 3 * sold[:120].mean()


def test_a_first_purchase_is_of_a_pair_that_never_came_before():
    known = [thirty_days.pairs(np.array(each)) for each in ([[0, 1, 1], [5, 5, 6]], [[2], [7]])]
    today = np.array([[0, 1, 2, 2, 1, 0], [5, 7, 7, 8, 7, 9]])
    found = thirty_days.first_purchases(known, today, 10, 0)
    assert found == {0: {9}, 1: {7}, 2: {8}}


def test_ndcg_is_one_where_all_that_is_wanted_leads_the_list():
    lists = np.array([[*range(10)]] * 3)
    assert thirty_days.ndcg(lists[:1], [{0, 1}]) == 1
    assert thirty_days.ndcg(lists, [{0}, {2}, {99}]) == pytest.approx((1 + 0.5) / 3)


def test_the_days_are_played_and_told_in_a_table(tiny, tmp_path):
    found = [thirty_days.play(name, "tiny", 1) for name in thirty_days.MODELS]
    assert [len(model["days"]) for model in found] == [4, 4, 4, 2]
    assert [model["shape"] for model in found[1:3]] == [found[3]["shape"]] * 2
    assert found[0]["shape"] < found[1]["shape"]
    harness.write(tmp_path / "thirty_days_small.json", {"models": found})
    rows = tables.thirty_days(tmp_path).rows
    assert [row[0] for row in rows] == list(thirty_days.MODELS)
    means = [np.mean([day["ndcg@10"] for day in model["days"] if day["day"] in (2, 4)])
             for model in found]
    assert [row[1] for row in rows] == [f"{mean:.4f}" for mean in means]
    assert tables.thirty_days(tmp_path / "none").rows == []
