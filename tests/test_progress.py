"""Bars are shown where they are asked for, and otherwise nothing is left of them."""

from __future__ import annotations

import io
import re
import sys
import types
import warnings
from pathlib import Path

import pytest
import samples

import mfcore
from mfcore import BPR, ImplicitMF, MatrixFactorization, MultDAE
from mfcore.progress import alone, is_shown, progress_bar

PACKAGE = Path(mfcore.__file__).parent


@pytest.mark.parametrize("model", [MatrixFactorization, ImplicitMF, BPR, MultDAE])
def test_a_quiet_fit_uses_nothing_of_tqdm(model, planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)                    # its import is an error
    samples.small(model, n_epochs=1).fit(planted.ratings)


def test_bars_are_made_in_one_place():
    using = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")
             if re.search(r"(from|import) tqdm", path.read_text("utf-8"))}
    assert using == {"progress.py", "cli/output.py"}


@pytest.mark.parametrize("shown", [True, False])
def test_a_bar_that_is_not_shown_takes_what_the_other_takes(shown, capsys):
    with progress_bar(shown, total=3, desc="so far") as bar:
        bar.update()
        bar.update(1.5)
        bar.set_postfix({"loss": 1})
        bar.set_postfix_str("reading")
        assert (bar.n, bar.total) == (2.5, 3)
    bar.close()
    assert ("so far" in capsys.readouterr().err) == shown


class Terminal(io.StringIO):
    def isatty(self):
        return True


def at_terminal(monkeypatch):
    """Make standard error a terminal, whose bars do not wait, and return it."""
    found = Terminal()
    monkeypatch.setattr(sys, "stderr", found)           # (in a fixture pytest would undo it)
    monkeypatch.setattr("mfcore.progress.DELAY", 0)
    return found


@pytest.fixture
def notebook(monkeypatch):
    """A kernel that shows a notebook."""
    shell = types.SimpleNamespace(config={"IPKernelApp": {}})
    fake = types.SimpleNamespace(get_ipython=lambda: shell, version_info=(8, 0))
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setattr("mfcore.progress.DELAY", 0)


def fitted(**params):
    return samples.small(ImplicitMF, n_epochs=2, **params).fit(samples.counts())


def test_nobody_who_does_not_look_sees_a_bar(capsys):
    assert ImplicitMF().verbose is None
    fitted()
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_a_bar_unless_it_is_told_not_to(monkeypatch):
    terminal = at_terminal(monkeypatch)
    fitted(verbose=0)
    assert terminal.getvalue() == ""
    fitted()
    assert "fit: 100%" in terminal.getvalue()


def test_short_work_shows_no_bar_that_nobody_asked_for(monkeypatch):
    terminal = at_terminal(monkeypatch)
    monkeypatch.setattr("mfcore.progress.DELAY", 60)
    fitted()
    assert "fit" not in terminal.getvalue()
    fitted(verbose=1)
    assert "fit: 100%" in terminal.getvalue()


def test_a_large_file_is_read_with_a_bar_too(monkeypatch, tmp_path):
    terminal = at_terminal(monkeypatch)
    path = tmp_path / "ratings.csv"
    path.write_text("user,item,rating\n" + "".join(f"{row},{row % 7},3\n" for row in range(999)))
    mfcore.read_ratings(path, verbose=0)
    assert terminal.getvalue() == ""
    mfcore.read_ratings(path)
    assert "ratings.csv" in terminal.getvalue()


def test_work_inside_other_work_shows_no_bar_of_its_own(monkeypatch):
    terminal = at_terminal(monkeypatch)
    with alone():
        assert not is_shown(None)
        assert is_shown(1)
        fitted()
    assert terminal.getvalue() == ""
    assert is_shown(None)
    mfcore.tune(samples.small(ImplicitMF), samples.counts(30, 20), budget=12, verbose=0,
                random_state=0)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize("ask", [
    lambda: mfcore.cross_validate(samples.small(ImplicitMF), samples.counts(30, 20), 3),
    lambda: mfcore.compare({"a": samples.small(ImplicitMF), "b": mfcore.Popularity()},
                           samples.counts(30, 20), n_folds=3)], ids=["cross_validate", "compare"])
def test_folds_show_one_bar_and_none_for_a_fit(ask, monkeypatch):
    terminal = at_terminal(monkeypatch)
    ask()
    assert "3/3" in terminal.getvalue()
    assert "fit" not in terminal.getvalue()
    assert is_shown(None)


def test_a_notebook_shows_a_bar_without_a_warning(notebook, monkeypatch, capsys):
    assert is_shown(None)
    for name in [name for name in sys.modules if name.startswith(("tqdm.auto", "ipywidgets"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted()


def test_a_program_without_standard_error_shows_none(monkeypatch):
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        monkeypatch.setattr(sys, "stderr", stream)
        assert not is_shown(None)
        fitted()
