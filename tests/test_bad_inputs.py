"""Every public function times every bad input: a documented answer or a documented error."""

from __future__ import annotations

import bad_inputs
import numpy as np
import pytest
import samples
from reliability import record

import mfcore

PARTS = {f"{made.__name__} {part.__name__}": (lambda made=made, part=part: part(made))
         for made in samples.EVERY
         for part in (bad_inputs.of_model, bad_inputs.of_parameters)}
PARTS["functions"] = bad_inputs.of_functions


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Work in a folder of our own: a string is a fine path to save to."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.filterwarnings("ignore")           # what numbers out of range make NumPy say
def test_every_bad_input_is_answered_or_refused_by_name(part, record_property):
    count, found = bad_inputs.defects(PARTS[part]())
    record_property("bad inputs", count)
    print(f"{count} bad inputs")
    assert count > 30
    assert found == []


@pytest.mark.soak
def test_all_bad_inputs_are_counted():
    record("bad inputs to public functions, answered or refused by name",
           sum(1 for _ in bad_inputs.cases()),
           "test_bad_inputs.py::test_every_bad_input_is_answered_or_refused_by_name")


# ------------------------------------------------- what somebody gives in place of a sequence

SINGLE = (5, -1.5, True, object(), np.array(5), np.datetime64("2020-01-01"))
SEQUENCES = {
    "user_ids": lambda x: mfcore.Ratings(samples.matrix(), user_ids=x),
    "users": lambda x: mfcore.Ratings.from_arrays(x, [1]),
    "items": lambda x: mfcore.Ratings.from_arrays([1], x),
    "item_ids": lambda x: mfcore.rerank([[0, 1]], [[1.0, 2.0]], [["a"], ["b"]], k=1, item_ids=x),
    "models": mfcore.compile_kernels,
    "space": lambda x: mfcore.tune(mfcore.Popularity(), samples.counts(), x, budget=2),
    "groups": lambda x: mfcore.evaluate(
        samples.small(mfcore.Popularity).fit(samples.counts()), samples.counts(),
        exclude_seen=False, metrics=["cross_group_rate"], groups=x),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_what_cannot_be_gone_through_is_refused_by_the_name_of_the_argument(name):
    for value in SINGLE:
        with pytest.raises((TypeError, ValueError), match=rf"^{name} must be"):
            SEQUENCES[name](value)


@pytest.mark.parametrize("name", ["user_ids", "users", "items", "item_ids"])
@pytest.mark.parametrize("text", ["abc", b"abc", ""])
def test_one_text_is_no_sequence_of_ids(name, text):
    with pytest.raises(TypeError, match=f"^{name} must be a sequence of ids, got"):
        SEQUENCES[name](text)


def test_a_masked_value_is_a_missing_id():
    with pytest.raises(ValueError, match="users must not be missing"):
        mfcore.Ratings.from_arrays(np.ma.masked, [1])


@pytest.mark.parametrize("k", [b"x", "x", [b"x"], np.inf])
def test_a_cut_is_no_text(k):
    model = samples.small(mfcore.Popularity).fit(samples.counts())
    with pytest.raises(TypeError, match="^k must be an integer"):
        mfcore.evaluate(model, samples.counts(), exclude_seen=False, metrics=["ndcg"], k=k)


def test_one_candidate_is_a_list_of_one():
    model, test = samples.small(mfcore.Popularity).fit(samples.counts()), samples.counts()
    one, many = (mfcore.evaluate(model, test, exclude_seen=False, metrics=["ndcg"], candidates=each)
                 for each in (2, [2]))
    assert one == many
