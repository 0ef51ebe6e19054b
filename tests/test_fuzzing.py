"""Files from strangers are read or refused: a few hundred of each kind, the same each time."""

from __future__ import annotations

from itertools import islice

import fuzzing
import guided
import pytest
from reliability import record

# Minutes of fuzzing guided by coverage, and what they try.
GUIDED = {"read": (15, "ratings files, read or refused"),
          "load": (5, "bytes of model files, loaded or refused"),
          "archive": (10, "contents of model files with checksums that agree, loaded or refused "
                          "and asked every question"),
          "folder": (5, "contents of ratings folders with checksums that agree, opened and "
                        "learned from or refused")}


@pytest.mark.filterwarnings("ignore")           # forged numbers overflow; that is no defect
@pytest.mark.parametrize(("name", "count"), [("read", 400), ("load", 400), ("archive", 400),
                                             ("folder", 100)])
def test_a_file_from_a_stranger_is_read_or_refused(name, count):
    for data in islice(fuzzing.inputs(name, 0), count):
        fuzzing.TARGETS[name](data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GUIDED)
def test_inputs_that_once_reached_new_lines_are_read_or_refused(name):
    """What guided fuzzing kept, and what it found wrong."""
    kept = fuzzing.corpus(name)
    assert kept
    for data in kept:
        fuzzing.TARGETS[name](data)


@pytest.mark.soak
@pytest.mark.parametrize("name", GUIDED)
def test_minutes_of_fuzzing_guided_by_coverage_find_no_defect(name, tmp_path):
    pytest.importorskip("atheris")
    minutes, what = GUIDED[name]
    found = guided.guided(name, 60 * minutes, tmp_path)
    assert found["defects"] == 0
    record(f"{what}: fuzzed for {minutes} minutes, guided by coverage", found["executions"],
           "test_fuzzing.py::test_minutes_of_fuzzing_guided_by_coverage_find_no_defect",
           minutes=minutes, findings=0, kept=found["kept"])
