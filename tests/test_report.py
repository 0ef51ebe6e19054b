"""The report of the benchmarks: its tables are those of the result files."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from benchmarks import harness, report, tables
from benchmarks.cases import CASES


def run(seconds, figures=(9.0, 8.0, 7.0, 6.0, 5.0, 4.0)):
    times = [seconds * t for t in range(1, len(figures) + 1)]
    return {"first call": 0.5, "gigabytes": 0.1, "wall": times, "cpu": times,
            "figure": list(figures)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Results of one case, and of growth."""
    monkeypatch.setattr(harness, "missing", lambda needs: None)
    harness.compare(CASES["als_cg_implicit_64"], "medium", 3, out=tmp_path,
                    run=lambda case, name, *_: run(1 if name == "mfcore" else 2))
    points = [{"curve": "fixed", "kind": "als", "users": 10, "items": 5, "millions": n, "k": 64,
               "nnz": n * 10**6, "cpu": n**1.5, "wall": 1.0, "gigabytes": 0.5 * n, "GF/s": 50.0,
               "GB/s": 9.0, "floor": n**1.5 / 4} for n in (1, 10)]
    points.append({**points[-1], "curve": "factors"})
    harness.write(tmp_path / "growth.json", {"points": points})
    return tmp_path


def test_the_tables_of_the_readme_are_those_of_the_result_files():
    found, figures = set(), set()
    for page in report.PAGES:
        text = page.read_text("utf-8")
        assert report.filled(text) == text, "run python -m benchmarks report"
        found |= set(re.findall("<!-- table: (.*) -->", text))
        figures |= set(re.findall("<!-- figure: (.*?) -->", text))
        assert not re.search("^<!-- figure: ", text, re.M)       # a line of its own would be HTML
    assert found == set(report.TABLES)
    assert figures == set(report.FIGURES)


def test_the_front_page_is_short():
    assert len(report.FRONT.read_text("utf-8").splitlines()) <= 200


def test_the_picture_of_the_front_page_is_that_of_the_result_file():
    pytest.importorskip("matplotlib")
    shown = report.PICTURE.read_text("utf-8")
    drawn = report.folding_picture()
    assert re.findall(r">([\d.]+%)<", shown) == re.findall(r">([\d.]+%)<", drawn)


def test_a_row_states_ratios_seconds_and_goal(folder):
    (row,) = tables.speed(folder).rows
    assert row == ["implicit ALS by CG, as implicit, k = 64", "medium", "implicit", "2 (2–2)",
                   "2 (2–2)", "4", "8", "0.10", "0.10", "4", "3"]
    assert tables.behind(folder).rows == [
        [row[0], "medium", "implicit", "2", "4", "short of the goal"]]


def test_a_figure_that_we_never_reach_is_a_loss(folder):
    path = folder / "als_cg_implicit_64_medium.json"
    result = json.loads(path.read_text())
    for turn in result["rounds"]:
        turn["mfcore"]["figure"] = [9.0] * 6
    harness.write(path, result)
    assert tables.speed(folder).rows[0][5:7] == ["never", "8"]
    assert tables.behind(folder).rows[0][-1] == "the peer alone reaches the figure"


def test_slopes_are_those_of_logarithms(folder):
    rows = tables.growth(folder).rows
    assert rows[0] == ["fixed", "als", "1M: 1, 10M: 31.6", "1.50", "5.00", "1.00"]
    assert tables.slope(np.array([1.0, 2, 4]), [3, 6, 12]) == "1.00"


def test_a_rate_is_work_by_time(folder):
    rate, moved = (each * 1e7 / 1e9 / 10**1.5 for each in (18 * 64, 8 * 64 + 16))
    (row,) = tables.limits(folder).rows
    assert row == ["als", "64", f"{rate:.1f}", "50", f"{rate / 50:.0%}", f"{moved:.1f}", "9.0",
                   "25%"]


def test_a_rate_of_kernels_from_before_the_floor_was_measured_is_left_out(folder):
    path = folder / "growth.json"
    result = json.loads(path.read_text())
    for point in result["points"]:
        del point["floor"]
    harness.write(path, result)
    assert tables.limits(folder).rows == []


def test_the_page_needs_nothing_else(folder):
    pytest.importorskip("matplotlib")
    from benchmarks.page import page

    text = page(folder)
    assert "<svg" in text
    assert not re.findall(r"(?:src|href)=[\"']?(?!#|data:)\S+",
                          re.sub(r"xlink:href=\"#.*?\"", "", text))
    assert page(folder) == text


def test_the_page_shows_every_claim_that_was_tried(folder):
    pytest.importorskip("matplotlib")
    from benchmarks.claims.study import RESULTS as TRIED
    from benchmarks.page import page

    assert "claims study" not in page(folder)
    (folder / "claims").mkdir()
    (folder / "claims" / "codes.json").write_text((TRIED / "codes.json").read_text())
    text = page(folder)
    assert text.count("src=\"data:image/svg+xml;base64,") == text.count("<section id=") == 1
    assert "<a href='#codes'>" in text
    assert '<section id="codes">' in text


def test_a_result_is_named_after_a_case_and_a_size():
    names = {f"{name}_{size}" for name in CASES for size in tables.SIZES}
    ours = [path.stem for path in harness.RESULTS.glob("*.json")
            if "rounds" in (found := json.loads(path.read_text())) and "case" in found]
    assert set(ours) <= names
