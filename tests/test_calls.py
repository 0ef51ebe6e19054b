"""A call that does not fit is refused in the name of the user's class, with what may be meant."""

from __future__ import annotations

import inspect

import pytest
import samples

from mfcore import BayesianMF, ImplicitMF, MatrixFactorization, MultVAE, Segmented, serving


class OfTheUser(ImplicitMF):
    """A class that is made outside of the library."""


def fitted(made):
    return samples.small(made).fit(samples.counts())


OWN = [ImplicitMF, OfTheUser, BayesianMF, MultVAE, Segmented]      # two with a recommend of theirs


@pytest.mark.parametrize("made", OWN, ids=lambda made: made.__name__)
@pytest.mark.parametrize("word", ["n", "N", "top_k", "kk"])
def test_the_length_of_a_list_is_called_k(made, word):
    with pytest.raises(TypeError) as refusal:
        fitted(made).recommend([1], **{word: 3})
    assert str(refusal.value) == (f"{made.__name__}.recommend() got an unexpected keyword argument "
                                  f"{word!r}; did you mean 'k'?")


@pytest.mark.parametrize(("ask", "message"), [
    (lambda m: m.recommend([1], 3, "dot"), "OfTheUser.recommend() takes from 1 to 3 positional"),
    (lambda m: m.similar_items(), "OfTheUser.similar_items() missing 1 required"),
    (lambda m: m.fit(), "OfTheUser.fit() missing 1 required positional argument: 'ratings'"),
    (lambda m: m.fit(samples.counts(), weight=1), "did you mean 'sample_weight'?"),
    (lambda m: m.recommend(similarly="dot"), "did you mean 'similarity'?"),
    (lambda m: m.recommend(filter_already_liked_items=True), "did you mean 'exclude_seen'?"),
    (lambda m: m.save(), "OfTheUser.save() missing"),
    (lambda m: OfTheUser(factors=3), "OfTheUser() got an unexpected keyword argument 'factors'; "
                                     "did you mean 'n_factors'?"),
    (lambda m: OfTheUser.like_implicit(2, alhpa=1), "OfTheUser() got an unexpected keyword "
                                                    "argument 'alhpa'; did you mean 'alpha'?"),
    (lambda m: OfTheUser(3, 4), "OfTheUser() takes from 1 to 2 positional")])
def test_a_call_that_does_not_fit_names_the_class(ask, message):
    with pytest.raises(TypeError) as refusal:
        ask(fitted(OfTheUser))
    assert message in str(refusal.value)


def test_a_served_model_makes_the_same_suggestions(tmp_path):
    fitted(ImplicitMF).save(tmp_path / "model")
    with pytest.raises(TypeError, match=r"Served.recommend\(\) .* 'n'; did you mean 'k'\?$"):
        serving.load(tmp_path / "model").recommend([1], n=3)


def test_a_word_that_resembles_none_has_no_suggestion():
    with pytest.raises(TypeError) as refusal:
        fitted(ImplicitMF).recommend(xyzzy=1)
    assert str(refusal.value).endswith("unexpected keyword argument 'xyzzy'")


def test_errors_from_within_a_call_stay_what_they_are():
    model = fitted(ImplicitMF)
    with pytest.raises(TypeError, match=r"^k must be an integer") as refusal:
        model.recommend(k="x")
    assert len(refusal.traceback) > 3

    def stops(model, record):
        return stops(model, record, nothing=1)

    with pytest.raises(TypeError, match=r"stops\(\) got an unexpected keyword argument 'nothing'"):
        samples.small(ImplicitMF).fit(samples.counts(), callbacks=[stops])


@pytest.mark.parametrize("made", samples.EVERY, ids=lambda made: made.__name__)
def test_signatures_and_docstrings_are_those_of_the_methods(made):
    assert "self" not in inspect.signature(made).parameters
    assert list(inspect.signature(made.predict).parameters)[:3] == ["self", "users", "items"]
    assert inspect.getdoc(made.recommend).startswith("Return the k best items")
    assert inspect.unwrap(made.recommend) is not made.recommend
    assert inspect.getsource(made.fit).lstrip().startswith("def fit(")


def test_the_words_of_elsewhere_are_none_of_ours():
    from mfcore.calls import ELSEWHERE

    ours = {name for made in samples.EVERY for name in made._parameter_names()}
    ours |= {name for method in ("recommend", "recommend_users", "similar_items")
             for name in inspect.signature(getattr(MatrixFactorization, method)).parameters}
    assert not ours & set(ELSEWHERE)
    assert set(ELSEWHERE.values()) <= ours
