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

from benchmarks.claims.statistics import TOO_FEW
from benchmarks.claims.study import RESULTS, judged
from benchmarks.harness import write

Result = dict[str, Any]
MARKS = {"shown": "o", "refuted": "X", "not shown": "D", TOO_FEW: "."}
HEAD = """# The claims study

Thirteen claims about factorization and its relatives, each tried in the same way: for every arm and
fold as many settings drawn and compared on validation data, the best tested once; differences
paired by fold. An interval holds the mean difference with 95 %, by a bootstrap widened for few
folds; positive is in favour of the sentence. "Not shown" is a verdict: the interval holds 0.
Folds of real data share training ratings, so an interval speaks of that data set alone; generated
data are drawn for each fold. Many sentences are tried, and no interval is corrected for that.

`python -m benchmarks claims [NAME]` runs what is missing, `python -m benchmarks claims --report`
makes this page. Search spaces, settings chosen, all trials and the environment are in the result
files.

"""


def results(folder: Path = RESULTS) -> list[Result]:
    """Return the results there are, in the order of the study."""
    from benchmarks.claims import NAMES

    paths = (folder / f"{name}.json" for name in NAMES)
    found = [json.loads(path.read_text()) for path in paths if path.exists()]
    return [result for result in found if result.get("comparisons")]


def table(found: Sequence[Result]) -> str:
    """Return a row per claim: verdict, the effect that decides with its interval, and figure."""
    lines = ["| claim | verdict | effect in its first sentence, and interval | figure |",
             "|---|---|---|---|"]
    for result in found:
        rows = [row for row in result["comparisons"] if row["decides"]]
        effects = "<br>".join(f"{row['data']}: {interval(row, result)}" for row in rows
                              if row["says"] == rows[0]["says"])
        lines.append(f"| [{result['says']}](#{result['claim']}) | {counted(rows)} | {effects} | "
                     f"[figure](results/claims/{result['claim']}.svg) |")
    return "\n".join(lines) + "\n"


def counted(rows: Sequence[dict[str, Any]]) -> str:
    """Return the verdict, or how often each was reached where it depends."""
    verdicts = [row["verdict"] for row in rows if row["verdict"] != TOO_FEW] or [TOO_FEW]
    kinds = sorted(dict.fromkeys(verdicts), key=lambda kind: -verdicts.count(kind))
    return kinds[0] if len(kinds) == 1 else "it depends: " + ", ".join(
        f"{kind} {verdicts.count(kind)}" for kind in kinds)


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
    if result["found"]:
        lines += [f"Found: {result['found']}", ""]
    data = dict.fromkeys(row["data"] for row in result["comparisons"])
    lines += [f"{result['trials']} trials an arm and fold, {result['folds']} folds of "
              f"{' and of '.join(data)}; `{result['command']}`.", "",
              "| sentence | data | first | second | difference | size | verdict |",
              "|---|---|---|---|---|---|---|"]
    for row in result["comparisons"]:
        size = "–" if row["size"] is None else f"{row['size']:+.1f}"
        says = row["says"] if row["decides"] else f"*{row['says']}*"
        lines.append(f"| {says} | {row['data']} | {row['first'][1]:.4f} | {row['second'][1]:.4f} | "
                     f"{interval(row, result)} | {size} | {row['verdict']} |")
    return "\n".join(lines) + "\n"


def markdown(found: Sequence[Result]) -> str:
    """Return the whole page."""
    return HEAD + table(found) + "\nSentences in italics are not the claim: conditions, and " \
        "controls. Size is the mean difference in\nstandard deviations of the differences.\n\n" + \
        "\n".join(map(section, found))


# --------------------------------------------------------------------------- figures


def figure(result: Result) -> str:
    """Return effects with their intervals as SVG, one panel a metric, readable in grey."""
    import matplotlib
    from matplotlib.figure import Figure

    metrics = list(dict.fromkeys(row["metric"].split(",")[0] for row in result["comparisons"]))
    panels = [[row for row in result["comparisons"] if row["metric"].split(",")[0] == metric]
              for metric in metrics]
    style = {"svg.fonttype": "none", "svg.hashsalt": "claims", "font.size": 8}
    with matplotlib.rc_context(style):
        height = sum(map(len, panels)) * 0.24 + 0.9 * len(panels)
        drawn = Figure((9, height), layout="constrained")
        axes = drawn.subplots(len(panels), 1, squeeze=False,
                              height_ratios=[len(panel) + 1 for panel in panels])[:, 0]
        for ax, metric, panel in zip(axes, metrics, panels, strict=True):
            forest(ax, panel, f"difference in {metric}, {unit(metric, result)}; right of 0: "
                              f"in favour of the sentence")
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
    ax.set_xlabel(label)


def pages(found: Sequence[Result]) -> str:
    """Return a part of an HTML page for each claim, its figure within."""
    return "\n".join(page(result) for result in found)


def page(result: Result) -> str:
    """Return the HTML of a claim: texts, figure, and the table of its arms."""
    picture = base64.b64encode(figure(result).encode()).decode()
    texts = [("Hypothesis", result["hypothesis"]), ("Found", result["found"]),
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
    (RESULTS.parents[1] / "CLAIMS.md").write_text(markdown(found))
    if out is not None:
        out.write_text(f'<!doctype html><meta charset="utf-8"><title>Claims</title>'
                       f'<meta name="viewport" content="width=device-width">'
                       f'<body style="font:16px sans-serif;max-width:60em;margin:auto;padding:1em">'
                       f"<h1>The claims study</h1>{pages(found)}")
