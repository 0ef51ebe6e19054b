"""The report: tables of README.md, and a page with plots that needs nothing else.

    python -m benchmarks report [--results FOLDER] [--page FILE]

Pages keep their text; what stands between `<!-- table: NAME -->`, or `<!-- figure: NAME -->` within
a line, and `<!-- end -->` is made from the result files.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import FIGURES
from benchmarks.harness import RESULTS
from benchmarks.headline import folding_picture, headline_accuracy, headline_speed
from benchmarks.standings import accuracy, unmeasured
from benchmarks.tables import (
    behind,
    closed_forms,
    defaults,
    first_calls,
    floors,
    gibbs,
    growth,
    ingredients,
    latency,
    limits,
    machine,
    million,
    ranking,
    seeds,
    settings,
    shares_of_levels,
    speed,
    thirty_days,
    tuning,
)
from mfcore.atomic import replaceable

README = Path(__file__).with_name("README.md")
FRONT = README.parents[1] / "README.md"
DOCS = FRONT.with_name("docs")
PICTURE = DOCS / "_static" / "folding.svg"
PAGES = [README, FRONT, *sorted(DOCS.glob("*.md")), *sorted((DOCS / "results").glob("*.md"))]
PAGE = RESULTS / "report.html"
TABLES: dict[str, Callable[[Path], str]] = {
    "machine": machine,
    "defaults_of_ratings": lambda folder: defaults("rmse", folder).markdown(),
    "tuning": lambda folder: tuning(folder).markdown(),
    "floors_of_ratings": lambda folder: floors("rmse", folder).markdown(),
    "floors_of_choices": lambda folder: floors("ndcg@10", folder).markdown(),
    "defaults_of_choices": lambda folder: defaults("ndcg@10", folder).markdown(),
    **{each.__name__: lambda folder, each=each: each(folder).markdown()  # type: ignore[misc]
       for each in (speed, seeds, latency, ranking, closed_forms, million, behind, settings,
                    first_calls, growth, limits, accuracy, unmeasured, headline_speed,
                    headline_accuracy, thirty_days, ingredients, shares_of_levels, gibbs)}}
PLACE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
INLINE = re.compile(r"(<!-- figure: (\w+) -->).*?(<!-- end -->)", re.DOTALL)


def filled(text: str, folder: Path = RESULTS) -> str:
    """Return the text with its tables and its figures made again."""
    text = PLACE.sub(lambda match: f"{match[1]}{TABLES[match[2]](folder)}\n{match[3]}", text)
    return INLINE.sub(lambda match: f"{match[1]}{FIGURES[match[2]](folder)}{match[3]}", text)


def main(arguments: list[str]) -> None:
    """Write all."""
    from benchmarks.page import page

    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=replaceable, default=PAGE)
    given = parser.parse_args(arguments)
    for page_of_tables in PAGES:
        page_of_tables.write_text(filled(page_of_tables.read_text("utf-8"), given.results), "utf-8")
    PICTURE.write_text(folding_picture(given.results), "utf-8")
    given.page.write_text(page(given.results), "utf-8")
