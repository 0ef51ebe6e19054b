"""Files from strangers are read or refused: a few hundred of each kind, the same each time."""

from __future__ import annotations

from itertools import islice

import fuzzing
import pytest
from reliability import record

FUZZED = {"read": "ratings files with bytes changed at random, read or refused",
          "load": "model files with bytes changed at random, loaded or refused",
          "archive": "model files with other contents and checksums that agree, the same, then "
                     "asked every question"}


@pytest.mark.filterwarnings("ignore")           # forged numbers overflow; that is no defect
@pytest.mark.parametrize(("name", "count"), [("read", 400), ("load", 400), ("archive", 400)])
def test_a_file_from_a_stranger_is_read_or_refused(name, count):
    for data in islice(fuzzing.inputs(name, 0), count):
        fuzzing.TARGETS[name](data)


@pytest.mark.soak
@pytest.mark.parametrize("name", sorted(fuzzing.TARGETS))
def test_ten_minutes_of_files_from_strangers_find_no_defect(name, tmp_path):
    found = fuzzing.run(name, 600, tmp_path)
    assert found["defects"] == 0
    record(FUZZED[name], found["executions"],
           "test_fuzzing.py::test_ten_minutes_of_files_from_strangers_find_no_defect")
