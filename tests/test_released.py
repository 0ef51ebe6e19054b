"""What a released version wrote loads for ever, and answers as it did then."""

from __future__ import annotations

import json

import numpy as np
import pytest
import released
import samples

import mfcore

VERSIONS = sorted(path for path in released.FIXTURES.iterdir() if path.is_dir())
FILES = [path for version in VERSIONS for path in sorted(version.glob("*.mfcore"))]
# A stored factor is exact, and a score of three of them nearly so.  Networks multiply, and new
# users are solved for, in an order that is the processor's.
SCORES, SOLVED = 1e-6, 1e-4
NETWORKS = ("NeuralMF", "RatingAutoencoder", "MultDAE", "MultVAE", "RecVAE")


def numbers(values):
    return np.array(values, np.float64)              # None becomes NaN


def assert_near(got, wanted, tolerance):
    got, wanted = numbers(got), numbers(wanted)
    np.testing.assert_allclose(got, wanted, rtol=0,
                               atol=tolerance * max(1.0, np.nanmax(np.abs(wanted))))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_model_that_a_released_version_wrote_answers_as_it_did(path):
    wanted = json.loads((path.parent / "answers.json").read_text())[path.stem]
    model = mfcore.load(path)
    got = released.answers(model)
    scores = SOLVED if path.stem in NETWORKS else SCORES
    assert got["recommend"] == wanted["recommend"]
    assert_near(got["predict"], wanted["predict"], scores)
    assert_near(got["scores"], wanted["scores"], scores)
    assert_near(got["new user"], wanted["new user"], SOLVED)


@pytest.mark.parametrize("path", VERSIONS, ids=lambda path: path.name)
def test_ratings_that_a_released_version_wrote_open_as_they_were(path):
    wanted, got = released.ratings(), mfcore.Ratings.open(path / "ratings")
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(got.by_user, name), getattr(wanted.by_user, name))
        np.testing.assert_array_equal(getattr(got.by_item, name), getattr(wanted.by_item, name))
    np.testing.assert_array_equal(got.weights, wanted.weights)
    np.testing.assert_array_equal(got.user_ids, wanted.user_ids)
    np.testing.assert_array_equal(got.item_ids, wanted.item_ids)


# Classes that came after this version; files of the next will hold them.
LATER = {"GraphFilter", "PureSVD", "ItemKNN", "RP3Beta", "SoftmaxMF", "SparseEASE"}


def test_every_class_of_this_version_has_a_file():
    kept = {path.stem for path in FILES if path.parent.name == mfcore.__version__}
    assert kept == {made.__name__ for made in samples.EVERY} - LATER


def test_files_are_small():
    assert sum(path.stat().st_size for path in released.FIXTURES.rglob("*")) < 300_000
