"""The tool of mutation testing, and its list of mutants that no test can tell."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent
LISTED = json.loads((HERE / "equivalent_mutants.json").read_text("utf-8"))


def test_each_mutant_said_to_be_equivalent_is_of_a_line_that_is_still_there_and_has_a_reason():
    for each in LISTED:
        lines = [line.strip() for line in (HERE.parent / each["file"]).read_text().splitlines()]
        first, *more = each["line"].split("\n")
        assert any(lines[n:n + 1 + len(more)] == [first, *more] for n in range(len(lines))), each
        assert each["mutants"]
        assert each["line"] not in each["mutants"]
        assert len(each["reason"]) > 20, each


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("cosmic_ray")
    import mutation

    return mutation


@pytest.fixture(scope="module")
def mutants(tool):
    import mutants

    return mutants


def test_mutants_compile_differ_in_one_place_and_keep_their_names_when_code_moves(mutants):
    text = (HERE.parent / "mfcore/objectives/biases.py").read_text("utf-8")
    moved = text.replace("\ndef ", "\n# A line more.\n\n\ndef ", 1)
    found, later = ([*mutants._mutants("mfcore/objectives/biases.py", each)]
                    for each in (text, moved))
    assert len(found) > 50
    assert len({each.key for each in found}) == len(found)
    assert {each.key for each in found} == {each.key for each in later}
    assert all(each.before != each.after for each in found)


def test_annotations_and_imports_for_types_are_not_mutated(mutants):
    text = ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import abc\n"
            "def f(x: int | None = None) -> int | None:\n    y: int | str = x\n    return y\n")
    assert not [*mutants._mutants("x.py", text)]


def test_what_numba_alone_reads_is_not_mutated(mutants):
    text = "A = 1\nif not config.DISABLE_JIT:\n    def f(x):\n        return x + 1\n"
    assert {each.lines for each in mutants._mutants("x.py", text)} == {(1, 1)}


def test_what_sums_is_mutated_too(mutants):
    changed = {each.after for each in mutants._mutants("x.py", "def f(x):\n    x += 1\n")}
    assert {"x -= 1", "x = 1", "x += 2", "x += 0"} <= {each.replace("  ", " ") for each in changed}


def test_a_change_inside_a_function_is_known_from_one_outside(mutants):
    before = mutants.compiled("A = 1\ndef f():\n    return 1\n", "x.py")
    inside, outside = (mutants.compiled(text, "x.py") for text in (
        "A = 1\ndef f():\n    return 2\n", "A = 2\ndef f():\n    return 1\n"))
    assert [*mutants.changed_inside(before, inside)] == [(0,)]
    assert mutants.changed_inside(before, outside) is None


def test_lines_are_followed_into_a_text_that_has_changed(tool):
    moved = tool.moved_lines("a\nb\nc\nd", "a\nx\nb\nc\ne\n")
    assert moved[1][0] == 1
    assert moved[2][-1] == 3
    assert 4 in moved[3]
    assert 5 in moved[4]


def test_the_interval_of_a_share_is_wilsons(tool):
    assert tool.wilson(0, 0) == (0.0, 1.0)
    low, high = tool.wilson(380, 400)
    for edge in (low, high):                # where the share is 1.96 standard errors away
        assert abs(0.95 - edge) == pytest.approx(tool.Z * (edge * (1 - edge) / 400) ** 0.5)


def test_every_part_has_files_and_every_file_of_the_parts_can_be_read(tool):
    for part in tool.PARTS.values():
        assert part.files
        assert part.tests in tool.TESTS
        for file in part.files:
            ast.parse((HERE.parent / file).read_text("utf-8"))
