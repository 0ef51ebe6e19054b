"""Guarantees are those that were counted, and each names a test that is there."""

from __future__ import annotations

import json
from pathlib import Path

from reliability import MUTATION, PAGE, RESULTS, mutation_row, tried_row

TESTS = Path(__file__).parent


def test_every_guarantee_is_on_the_page_with_the_test_that_holds_it():
    page = PAGE.read_text("utf-8")
    for what, row in json.loads(RESULTS.read_text("utf-8"))["rows"].items():
        assert tried_row(what, row) in page
        name, test = row["test"].split("::")
        assert f"def {test}(" in (TESTS / name).read_text("utf-8")


def test_every_mutation_score_is_on_the_page():
    page = PAGE.read_text("utf-8")
    for part, found in json.loads(MUTATION.read_text("utf-8")).items():
        assert mutation_row(part, found) in page
