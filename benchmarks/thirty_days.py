"""Thirty days of purchases: a model that is updated, one that is fitted again, one that is left.

    python -m benchmarks thirty_days [--size small|medium|large] [--models NAME ...]

Purchases are generated: users have a few topics, and now and then a new one; items belong to a
topic, sell best when they are new, and come every day, as users do; ids are text.  On the evening
of each day a model takes the day in, or not.  Then it answers 1,000 requests of one user each,
and its lists are held against what these users, and some more, buy on the next day for the first
time.  Each model runs in a process of its own.  A fit to all purchases of an evening does not
depend on the evenings before, so it is measured on every fifth alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from benchmarks.data import stored
from benchmarks.harness import RESULTS, THREADS, write
from benchmarks.machine import environment, peak_gigabytes
from mfcore import ImplicitMF, Ratings

DAYS, REQUESTS, TESTED, TOPICS, SLOTS, EVERY = 30, 1000, 4000, 120, (0.6, 0.25, 0.15), 5
SIZES = {"small": (4_000, 1_500, 200_000), "medium": (30_000, 8_000, 1_500_000),
         "large": (100_000, 20_000, 5_000_000)}       # users, items, purchases before the first day
DAILY, ACTIVE, BORN, TURN, NOVELTY = 0.01, 0.1, (0.005, 0.003), 0.01, 8.0


# ------------------------------------------------------------------------------ the shop


class Shop:
    """Who buys, and what there is to buy; it changes by the day."""

    def __init__(self, n_users: int, n_items: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.topics = np.empty((0, len(SLOTS)), int)
        self.activity, self.topic, self.appeal, self.born = (np.empty(0) for _ in range(4))
        self.join(n_users, n_items, -1000)

    def join(self, n_users: int, n_items: int, day: int) -> None:
        """Let users and items come."""
        draw = self.random
        self.topics = np.vstack([self.topics, draw.integers(0, TOPICS, (n_users, len(SLOTS)))])
        self.activity = np.append(self.activity, draw.lognormal(0, 0.8, n_users))
        self.topic = np.append(self.topic, draw.integers(0, TOPICS, n_items))
        self.appeal = np.append(self.appeal, draw.lognormal(0, 1.2, n_items))
        self.born = np.append(self.born, np.full(n_items, day))

    def pass_a_day(self) -> None:
        """Let some users take to another topic, and all appeals wander."""
        turned = np.flatnonzero(self.random.random(len(self.topics)) < TURN)
        self.topics[turned, self.random.integers(0, len(SLOTS), len(turned))] = \
            self.random.integers(0, TOPICS, len(turned))
        self.appeal *= self.random.lognormal(0, 0.03, len(self.appeal))

    def purchases(self, n: int, day: int, active: float = 1.0) -> np.ndarray:
        """Return users and items of n purchases, shape (2, n), by a share of all users."""
        here = self.random.random(len(self.topics)) < active
        odds = np.cumsum(self.activity * here)
        users = np.searchsorted(odds, self.random.random(n) * odds[-1], side="right")
        slot = self.random.choice(len(SLOTS), n, p=SLOTS)
        wanted = self.topics[users, slot]
        order = np.argsort(self.topic, kind="stable")
        sells = np.cumsum((self.appeal * (1 + NOVELTY * np.exp((self.born - day) / 5)))[order])
        ends = np.concatenate([[0], sells[np.searchsorted(self.topic[order], np.arange(TOPICS),
                                                          side="right") - 1]])
        place = ends[wanted] + self.random.random(n) * (ends[wanted + 1] - ends[wanted])
        items = order[np.searchsorted(sells, place, side="right").clip(0, len(order) - 1)]
        return np.vstack([users, items])


def days(size: str) -> list[np.ndarray]:
    """Return the purchases before the first day, and of each day."""
    n_users, n_items, n = SIZES[size]

    def made() -> dict[str, np.ndarray]:
        shop = Shop(n_users, n_items)
        found = {"0": shop.purchases(n, -1)}
        for day in range(1, DAYS + 2):
            shop.pass_a_day()
            shop.join(round(BORN[0] * n_users), round(BORN[1] * n_items), day)
            found[str(day)] = shop.purchases(round(DAILY * n), day, ACTIVE)
        return found

    all_days = stored(f"thirty-days-{size}", made)
    return [all_days[str(day)] for day in range(DAYS + 2)]


def named(purchases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return text ids of the users and items of purchases."""
    return tuple(np.array([f"{kind}{number:07d}" for number in numbers], object)
                 for kind, numbers in zip(("user-", "sku-"), purchases, strict=True))


def counted(purchases: np.ndarray) -> Ratings:
    """Return purchases as counts, with text ids; quicker than from a column of text."""
    (users, rows), (items, columns) = (np.unique(each, return_inverse=True) for each in purchases)
    R = sp.coo_array((np.ones(len(rows)), (rows, columns))).tocsr()
    user_ids, item_ids = named(np.array([users, users])), named(np.array([items, items]))
    return Ratings(R, user_ids=user_ids[0], item_ids=item_ids[1])


# --------------------------------------------------------------------------- the models


def fitted(ratings: Ratings, n_threads: int) -> ImplicitMF:
    """Return a model of purchases."""
    return ImplicitMF(64, random_state=0, n_threads=n_threads).fit(ratings)


def evening(name: str, model: Any, day: int, history: Callable[[], Ratings],
            today: Callable[[], Ratings]) -> Any:
    """Return the model after a day."""
    if name == "fit again":
        return fitted(history(), model.n_threads)
    if name == "never":
        return model
    model.update(today())
    if name == "update, all rows weekly" and day % 7 == 0:
        model.update(rows="all")
    return model


MODELS = ("never", "update", "update, all rows weekly", "fit again")


# ---------------------------------------------------------------------------- what counts


def ndcg(lists: np.ndarray, wanted: Sequence[set[Any]]) -> float:
    """Return NDCG@10 of lists, where each item that is wanted counts the same."""
    discounts = 1 / np.log2(np.arange(2, 12))
    ideal = np.concatenate([[0], np.cumsum(discounts)])
    return float(np.mean([
        sum(discount for item, discount in zip(items, discounts, strict=True) if item in sought)
        / ideal[min(len(sought), 10)] for items, sought in zip(lists, wanted, strict=True)]))


def pairs(purchases: np.ndarray) -> np.ndarray:
    """Return a number for each user and item of purchases, sorted and distinct."""
    return np.unique(purchases[0] << 32 | purchases[1])


def first_purchases(known: Sequence[np.ndarray], purchases: np.ndarray, n_users: int, seed: int
                    ) -> dict[int, set[int]]:
    """Return what some users buy for the first time; `known` holds the pairs of before."""
    new, found = pairs(purchases), {}
    for before in known:
        new = new[before[np.searchsorted(before, new).clip(max=len(before) - 1)] != new]
    for user, item in zip((new >> 32).tolist(), (new & 0xFFFFFFFF).tolist(), strict=True):
        found.setdefault(user, set()).add(item)
    users = np.random.default_rng(seed).permutation(list(found))[:n_users]
    return {user: found[user] for user in users.tolist()}


def requests(model: Any, users: Sequence[str]) -> np.ndarray:
    """Return the CPU milliseconds of requests of one user each."""
    spent = []
    for user in users:
        start = time.process_time()
        model.recommend([user], k=10, unknown="ignore")
        spent.append(time.process_time() - start)
    return 1000 * np.array(spent)


def play(name: str, size: str, n_threads: int) -> dict[str, Any]:
    """Return what a model does in thirty days."""
    shop = days(size)
    known = [pairs(shop[0])]
    fitted(counted(shop[0][:, :2000]), n_threads)                              # compiles
    start = time.process_time()
    model = fitted(counted(shop[0]), n_threads)
    found: dict[str, Any] = {"model": name, "first fit": round(time.process_time() - start, 3),
                             "days": []}
    for day in range(1, DAYS + 1):
        known.append(pairs(shop[day]))
        if name == "fit again" and day % EVERY:
            continue
        start = time.perf_counter(), time.process_time()
        model = evening(name, model, day, lambda day=day: counted(np.hstack(shop[:day + 1])),
                        lambda day=day: Ratings.from_arrays(*named(shop[day]), duplicates="sum"))
        wall, cpu = time.perf_counter() - start[0], time.process_time() - start[1]
        truth = first_purchases(known, shop[day + 1], TESTED, day)
        users = named(np.array([list(truth)] * 2))[0]
        lists = model.recommend(users, k=10, unknown="ignore")[0]
        wanted = [set(named(np.array([list(items)] * 2))[1]) for items in truth.values()]
        spent = requests(model, users[:REQUESTS])
        found["days"].append({
            "day": day, "ndcg@10": round(ndcg(lists, wanted), 5), "cpu": round(cpu, 4),
            "wall": round(wall, 4), "ms": round(float(np.median(spent)), 4),
            "ms, 99 %": round(float(np.quantile(spent, 0.99)), 4)})
    if name.startswith("update"):
        now, settled = model.objective()["total"], copy(model).update(rows="all").objective()
        found["stale"] = round((now - settled["total"]) / now, 5)
    return found | {"gigabytes": round(peak_gigabytes(), 3), "nnz": model.ratings_.nnz,
                    "shape": list(model.ratings_.shape)}


def main(arguments: list[str]) -> None:
    """Let the models play, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks thirty_days", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    path = given.out / f"thirty_days_{given.size}.json"
    found: dict[str, Any] = {"command": f"python -m benchmarks thirty_days --size {given.size}",
                             "environment": environment(given.threads), "models": []}
    days(given.size)
    for name in given.models:
        text = subprocess.run([sys.executable, "-m", "benchmarks.thirty_days", name, given.size,
                               str(given.threads)], stdout=subprocess.PIPE, text=True,
                              check=True).stdout
        found["models"].append(json.loads(text.splitlines()[-1]))
        write(path, found)


if __name__ == "__main__":
    print(json.dumps(play(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
