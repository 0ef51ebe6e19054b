"""The examples of the docstrings and of the reference, run; and what the reference holds."""

from __future__ import annotations

import doctest
import inspect
from pathlib import Path

import pytest

import mfcore
from mfcore.models.registry import MODELS

LIB = Path(__file__).parents[1] / "docs" / "_lib"
FLAGS = doctest.NORMALIZE_WHITESPACE
# Their examples stand in the reference.  One of compile_kernels would compile for minutes.
APART = {"Ratings", "load", "compile_kernels", "__version__"}
DOCUMENTED = [name for name in mfcore.__all__ if name not in APART]


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.syspath_prepend(LIB)
    import reference

    return reference


def failures(text, name):
    """What an example prints that is not what it says."""
    found = []
    test = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    assert test.examples, name
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=found.append)
    return "".join(found)


@pytest.mark.parametrize("name", DOCUMENTED)
def test_an_example_of_a_docstring_prints_what_it_says(name):
    assert failures(inspect.getdoc(getattr(mfcore, name)), name) == ""


def test_an_example_of_the_reference_prints_what_it_says(reference):
    examples = {name: group.example for name, group in reference.GROUPS.items() if group.example}
    assert len(examples) == 2
    assert [failures(text, name) for name, text in examples.items()] == ["", ""]


def test_an_example_that_prints_something_else_is_seen():
    assert "Got:" in failures(">>> 1 + 1\n3", "sum")


def test_every_public_name_has_its_page(reference):
    pages = "".join(reference.pages().values())
    for name in mfcore.__all__:
        assert f":: mfcore.{name}\n" in pages or name == "__version__", name


def test_the_reference_spells_out_what_a_docstring_has_from_another(reference):
    for name in MODELS:
        made = getattr(mfcore, name)
        entries = reference.spelled_out(made, inspect.getdoc(made))
        named = [one for each in entries for one in each.names]
        assert named == [one for one in inspect.signature(made).parameters if one in named]
        assert set(named) == set(inspect.signature(made).parameters)
        assert not [each for each in entries if "As in `" in " ".join(each.body)]
        assert all(each.type for each in entries), name


def test_a_remark_of_a_class_stands_with_the_parameter_that_it_names(reference):
    made = mfcore.ImplicitMF
    entries = {each.names[0]: each for each in reference.spelled_out(made, inspect.getdoc(made))}
    assert entries["eval_metric"].body[-1] == '    Here the default is "ndcg@10".'
    assert "Here" not in "".join(entries["verbose"].body)


def test_a_default_stands_behind_the_type(reference):
    made = mfcore.ImplicitMF
    lines = inspect.getdoc(made).splitlines()
    reference.complete(None, "class", "ImplicitMF", made, None, lines)
    assert "alpha : float, > 0, default 4.0" in lines
    assert "tol : float >= 0, or None, default None" in lines


def test_a_method_that_a_model_lacks_says_why(reference):
    assert "EASE" in reference.methods(mfcore.EASE)
    line = next(line for line in reference.methods(mfcore.EASE).splitlines()
                if "similar_users" in line)
    assert "learns nothing of users" in line


def test_pages_of_the_path_link_to_their_models_and_back(reference):
    assert set(reference.EXPLAINED) == set(MODELS)
    source = ["# Biases\n\nText."]
    reference.back(None, "path/04_biases", source)
    assert "[BiasOnly](../reference/BiasOnly.md)" in source[0]
    assert "../path/04_biases.md" in reference.pages()["BiasOnly"]
