"""Every public function times every bad input: a documented answer or a documented error."""

from __future__ import annotations

import bad_inputs
import pytest
import samples
from reliability import record

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
