"""Table, figures and pages of the claims study, made from its result files and nothing else.

    python -m benchmarks claims --report [HTML]
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.claims.statistics import LEAST, SAME, TOO_FEW, TOO_SMALL, least_of
from benchmarks.claims.study import RESULTS, judged
from benchmarks.harness import write

Result = dict[str, Any]
MARKS = {"shown": "o", "refuted": "X", "not shown": "D", SAME: "s", TOO_SMALL: "v", TOO_FEW: "."}
LEGEND = ("right of 0: in favour of the sentence   ● shown   ✖ refuted   ◆ not shown   "
          "■ the same   ▼ space too small")
COLUMNS = {"generated": "planted", "MovieLens 100K": "ml-100k", "MovieTweetings": "movietweetings",
           "Online Retail": "online-retail"}       # of the overview: how their data's names begin
HEAD = """# The claims study

Thirteen claims about factorization and its relatives, each tried in the same way: for every arm
and fold as many settings drawn, and the library's defaults, are compared on validation data, and
the best is tested once; differences are paired by fold, positive in favour of the sentence, with
Student's 95 % interval. Generated data are drawn anew for each fold. Real data are split anew
(MovieLens 100K rated: its five published folds), and splits share ratings: the interval "of
splits" allows for that, after Nadeau and Bengio (2003).

| verdict | what it means |
|---|---|
| shown, refuted | the interval lies on one side of 0 |
| not shown | it holds 0, and effects that would matter |
| the same | it lies within the smallest effect of interest: SMALLEST |
| space too small | an arm that could turn it takes an end of its search space, and that end pays |
| too few to tell | fewer than five folds or twenty trials |

An end counts where more than a third of the folds chose it, and no trial away from it came within
the smallest effect: what lies beyond was not tried (`claims/edges.py`).

Holm's p is corrected for the number of sentences of the claim (those that are the claim, and the
rest, apart); a verdict with p of 0.05 or more does not stand among them, and has its p in brackets.

`python -m benchmarks claims [NAME]` runs what is missing, `python -m benchmarks claims --report`
makes this page. Search spaces, settings chosen, all trials and the environment are in the result
files.

"""
FOOT = """
Sentences in italics are not the claim: conditions, and controls. Size is the mean difference in
standard deviations of the differences.

"""


def results(folder: Path = RESULTS) -> list[Result]:
    """Return the results there are, in the order of the study."""
    from benchmarks.claims import NAMES

    paths = (folder / f"{name}.json" for name in NAMES)
    found = [json.loads(path.read_text()) for path in paths if path.exists()]
    return [result for result in found if result.get("comparisons")]


def table(found: Sequence[Result]) -> str:
    """Return a row per claim: what was found, and the verdicts on each kind of data."""
    lines = ["| claim | what was found | " + " | ".join(COLUMNS) + " |", "|---" * 6 + "|"]
    for result in found:
        rows = [row for row in result["comparisons"] if row["decides"]]
        cells = [counted([row for row in rows if row["data"].startswith(start)])
                 for start in COLUMNS.values()]
        lines.append(f"| [{result['says']}](#{result['claim']}) | {result['answer']} | "
                     + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def counted(rows: Sequence[dict[str, Any]]) -> str:
    """Return how often each verdict was reached, the most frequent first; a dash for no rows."""
    verdicts = [row["verdict"] for row in rows if row["verdict"] != TOO_FEW]
    if not verdicts:
        return TOO_FEW if rows else "–"
    kinds = sorted(dict.fromkeys(verdicts), key=lambda kind: -verdicts.count(kind))
    return ", ".join(f"{kind} {verdicts.count(kind)}" for kind in kinds)


def interval(row: dict[str, Any], result: Result) -> str:
    """Return an effect as text, in the metric's unit."""
    return (f"{row['mean']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f}) "
            f"{row['metric']}, {unit(row['metric'], result)}")


def unit(metric: str, result: Result) -> str:
    """Return the unit of a metric, which may be named with a condition behind it."""
    units = result["units"]
    return next((units[name] for name in sorted(units, key=len, reverse=True)
                 if metric.startswith(name)), "0 to 1")


def section(result: Result) -> str:
    """Return all comparisons of a claim as Markdown."""
    lines = [f'<a id="{result["claim"]}"></a>', "", f"## {result['says']}", "",
             f"Hypothesis: {result['hypothesis']}", ""]
    if result["answer"]:
        lines += [f"Found: {' '.join(filter(None, (result['answer'], result['found'])))}", ""]
    data = dict.fromkeys(row["data"] for row in result["comparisons"])
    lines += [f"{result['trials']} trials an arm and fold, {result['folds']} folds of "
              f"{' and of '.join(data)}; `{result['command']}`.", "",
              "| sentence | data | first | second | difference | of splits | size | verdict |",
              "|---|---|---|---|---|---|---|---|"]
    for row in result["comparisons"]:
        size = "–" if row["size"] is None else f"{row['size']:+.1f}"
        says = row["says"] if row["decides"] else f"*{row['says']}*"
        lines.append(f"| {says} | {row['data']} | {row['first'][1]:.4f} | {row['second'][1]:.4f} | "
                     f"{interval(row, result)} | {of_splits(row)} | {size} | {reason(row)} |")
    return "\n".join(lines) + "\n"


def of_splits(row: dict[str, Any]) -> str:
    """Return the interval that allows for splits that share ratings; a dash for generated data."""
    return "–" if row["of_splits"] is None else "{:+.4f} to {:+.4f}".format(*row["of_splits"])


def reason(row: dict[str, Any]) -> str:
    """Return a verdict, with what opens it, or with Holm's p where it does not stand."""
    if row["ends"]:
        return f"{row['verdict']} ({', '.join(row['ends'])})"
    told = row["verdict"] in ("shown", "refuted") and row["holm"] >= 0.05
    least = f" within {least_of(row['metric']):g}" if row["verdict"] == SAME else ""
    return f"{row['verdict']}{least}" + (f" ({row['holm']:.2f})" if told else "")


def markdown(found: Sequence[Result]) -> str:
    """Return the whole page."""
    smallest = ", ".join(f"{least:g} {name}" for name, least in LEAST.items())
    return HEAD.replace("SMALLEST", smallest) + table(found) + FOOT + "\n".join(map(section, found))


# --------------------------------------------------------------------------- figures


def figure(result: Result, *, decisive: bool = False) -> str:
    """Return effects with their intervals as SVG, one panel a metric, readable in grey.

    decisive : whether to leave out conditions and controls
    """
    import matplotlib
    from matplotlib.figure import Figure

    rows = [row for row in result["comparisons"] if row["decides"] or not decisive]
    metrics = list(dict.fromkeys(row["metric"].split(",")[0] for row in rows))
    panels = [[row for row in rows if row["metric"].split(",")[0] == metric]
              for metric in metrics]
    style = {"svg.fonttype": "none", "svg.hashsalt": "claims", "font.size": 8}
    with matplotlib.rc_context(style):
        height = sum(map(len, panels)) * 0.24 + 0.6 * len(panels) + 0.3
        drawn = Figure((9, height), layout="constrained")
        axes = drawn.subplots(len(panels), 1, squeeze=False,
                              height_ratios=[len(panel) + 1 for panel in panels])[:, 0]
        for ax, metric, panel in zip(axes, metrics, panels, strict=True):
            forest(ax, panel, f"{metric}, {unit(metric, result)}")
        axes[-1].annotate(LEGEND, (1, 0), (0, -34), xycoords="axes fraction",
                          textcoords="offset points", ha="right", va="top")
        buffer = io.StringIO()
        drawn.savefig(buffer, format="svg", metadata={"Date": None})
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def forest(ax: Any, rows: Sequence[dict[str, Any]], label: str) -> None:
    """Draw effects below each other, folds as ticks; filled marks decide."""
    ax.axvline(0, color="0.5", linewidth=0.8)
    for place, row in enumerate(rows):
        ax.plot(row["differences"], [place] * len(row["differences"]), "|", color="0.6")
        ax.plot([row["low"], row["high"]], [place, place], color="0.1", linewidth=1.2)
        ax.plot(row["mean"], place, MARKS[row["verdict"]], color="0.1", markersize=5,
                markerfacecolor="0.1" if row["decides"] else "1")
    ax.set_yticks(range(len(rows)), [f"{row['says']}  [{row['data']}]" for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlabel(label, loc="right")


def pages(found: Sequence[Result]) -> str:
    """Return a part of an HTML page for each claim, its figure within."""
    return "\n".join(page(result) for result in found)


def page(result: Result) -> str:
    """Return the HTML of a claim: texts, figure, and the table of its arms."""
    picture = base64.b64encode(figure(result).encode()).decode()
    texts = [("Hypothesis", result["hypothesis"]), ("Found", result["answer"]),
             ("At length", result["found"]),
             ("Verdict", counted([row for row in result["comparisons"] if row["decides"]]))]
    parts = [f'<section id="{result["claim"]}"><h2>{html.escape(result["says"])}</h2>',
             *(f"<p><b>{name}.</b> {html.escape(text)}</p>" for name, text in texts if text),
             '<div style="overflow-x:auto"><img alt="effects with intervals" '
             'style="width:100%;min-width:40rem;background:#fff" '
             f'src="data:image/svg+xml;base64,{picture}"></div>',
             '<div style="overflow-x:auto"><table><tr><th>arm</th><th>data</th>'
             '<th>chosen by</th><th>test, mean of folds</th><th>search space</th></tr>',
             *rows_of_arms(result), "</table></div></section>"]
    return "\n".join(parts)


def rows_of_arms(result: Result) -> list[str]:
    """Return a row for each arm and data set."""
    rows = []
    for name, arm in result["arms"].items():
        for data in result["data"]:
            tests = [cell["test"] for key, cell in arm["folds"].items()
                     if key.rpartition(" ")[0] == data and "test" in cell]
            if tests:
                values = [test[arm["metric"]] for test in tests]
                space = ", ".join(f"{key}: {value}" for key, value in arm["space"].items())
                texts = name, data, arm["metric"], f"{sum(values) / len(values):.4f}", space
                row = "".join(f"<td>{html.escape(each)}</td>" for each in texts)
                rows.append(f"<tr>{row}</tr>")
    return rows


def publish(out: Path | None) -> None:
    """Judge the results again, write page and figures, and the HTML where it is asked for."""
    from benchmarks.claims import claim

    found = [judged(claim(result["claim"]), result) for result in results()]
    for result in found:
        write(RESULTS / f"{result['claim']}.json", result)
        (RESULTS / f"{result['claim']}.svg").write_text(figure(result))
        (RESULTS / f"{result['claim']}_decisive.svg").write_text(figure(result, decisive=True))
    (RESULTS.parents[1] / "CLAIMS.md").write_text(markdown(found))
    if out is not None:
        out.write_text(f'<!doctype html><meta charset="utf-8"><title>Claims</title>'
                       f'<meta name="viewport" content="width=device-width">'
                       f'<body style="font:16px sans-serif;max-width:60em;margin:auto;padding:1em">'
                       f"<h1>The claims study</h1>{pages(found)}")
