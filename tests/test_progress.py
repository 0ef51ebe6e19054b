"""Bars are shown where they are asked for, and otherwise nothing is left of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import samples

import mfcore
from mfcore import BPR, ImplicitMF, MatrixFactorization, MultDAE
from mfcore.progress import progress_bar

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
