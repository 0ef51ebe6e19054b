"""The accuracy command: settings by validation alone, every seed once, nothing measured twice."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import accuracy
from benchmarks.standings import seeded
from mfcore import BiasOnly, MatrixFactorization
from mfcore.data.split import random_split

SETTINGS = [{"n_factors": 2, "reg": reg, "n_epochs": 3} for reg in (1e-6, 0.3, 1e4)]


@pytest.fixture
def protocol(planted, monkeypatch):
    """A protocol on generated ratings, the only one that is there."""
    found = accuracy.Protocol(lambda seed: random_split(planted.ratings, 0.1, random_state=seed),
                              ("rmse",), {"BiasOnly": (BiasOnly, [{}]),
                                          "MF": (MatrixFactorization, SETTINGS)})
    monkeypatch.setattr(accuracy, "there", lambda: {"planted, RMSE, 90/10": found})
    return found


def test_the_setting_is_the_best_on_validation_and_the_figure_that_of_the_test_part(protocol):
    row = accuracy.measured(protocol, "MF", 3)
    train, test = protocol.split(3)
    part, validation = random_split(train, 0.1, random_state=1003)
    errors = [off(setting, part, validation) for setting in SETTINGS]
    assert row["setting"] == SETTINGS[int(np.argmin(errors))]
    assert row["rmse"] == pytest.approx(off(row["setting"], train, test), abs=2e-5)


def off(setting, train, test):
    """The RMSE on a test part, from predictions within the training range."""
    model, cells = MatrixFactorization(**setting, random_state=3).fit(train), test.by_user.tocoo()
    low, high = train.by_user.data.min(), train.by_user.data.max()
    said = model.predict(cells.row, cells.col)
    return np.sqrt(np.mean((np.clip(said, low, high) - cells.data) ** 2))


def test_the_test_part_decides_nothing(protocol):
    def spoiled(seed):
        train, test = protocol.split(seed)
        return train, type(test)(test.by_user * -1)

    other = protocol._replace(split=spoiled)
    chosen, figure = ([accuracy.measured(each, "MF", 3)[name] for each in (protocol, other)]
                      for name in ("setting", "rmse"))
    assert chosen[0] == chosen[1]
    assert figure[0] != figure[1]


def test_each_seed_is_measured_once_and_seed_0_not_unless_asked(protocol, tmp_path, monkeypatch):
    accuracy.main(["--out", str(tmp_path)])
    rows = json.loads((tmp_path / "accuracy.json").read_text())["rows"]
    assert [row["seed"] for row in rows if row["model"] == "MF"] == [1, 2, 3, 4, 5]
    monkeypatch.setattr(accuracy, "measured", lambda *_: pytest.fail("measured twice"))
    accuracy.main(["--out", str(tmp_path)])
    accuracy.main(["--out", str(tmp_path), "--data", "another"])


def test_the_table_has_mean_and_spread_of_the_seeds(protocol, tmp_path):
    accuracy.main(["--out", str(tmp_path), "--seeds", "1", "2"])
    rows = json.loads((tmp_path / "accuracy.json").read_text())["rows"]
    figure, values = next(seeded(rows)), [row["rmse"] for row in rows[:2]]
    assert figure.value == pytest.approx(np.mean(values))
    assert figure.spread == f"± {abs(values[0] - values[1]) / np.sqrt(2):.4f}, 2 seeds"


def test_only_data_of_this_machine_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("MFCORE_DATA", str(tmp_path))
    monkeypatch.setenv("MFCORE_CACHE", str(tmp_path / "cache"))
    assert accuracy.there() == {}
    (tmp_path / "ml-1m").mkdir()
    (tmp_path / "ml-1m" / "ratings.dat").write_text("1::1::5::0\n")
    (tmp_path / "gowalla").mkdir()
    for name, line in ("train", "0 1 2\n1 2\n"), ("test", "0 3\n"):
        (tmp_path / "gowalla" / f"{name}.txt").write_text(line)
    assert list(accuracy.there()) == ["ml-1m, RMSE, 90/10", "gowalla"]
    train, test = accuracy.gowalla(0)
    assert (train.shape, train.nnz, test.nnz) == ((2, 4), 3, 1)
