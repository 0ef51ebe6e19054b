"""One HTML page with all plots and tables inside: it opens without a network."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks import standings, tables
from benchmarks.claims import report as claims
from benchmarks.harness import RESULTS
from benchmarks.tables import Result, Table, curve, read, results

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; padding: 1rem }
h1, h2 { line-height: 1.2 }
.wide { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .85rem }
td, th { border-bottom: 1px solid #8886; padding: .3rem .6rem; text-align: left;
         vertical-align: top; min-width: 3.5rem }
svg { display: block; width: 100%; height: auto }
.broad figure { min-width: 40rem }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr));
         gap: .5rem }
figure { margin: 0; background: #fff; border-radius: 6px; padding: .3rem }
"""
SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "mfcore", "font.size": 9,
            "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
            "grid.alpha": 0.3, "font.family": "sans-serif", "legend.frameon": False}


def drawn(draw: Callable[[Any], None], size: tuple[float, float] = (4, 3)) -> str:
    """Return a plot as SVG to stand in a page."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text[text.index("<svg"):], count=1)
    return f"<figure>{re.sub(r' height=.[0-9.]+pt.', '', svg, count=1)}</figure>"


def colours(names: Any) -> dict[str, str]:
    """Return a colour for each name, the same in every plot: ours is the first."""
    return {name: f"C{n}" for n, name in enumerate(sorted(names, key=lambda x: (x != "mfcore", x)))}


# ------------------------------------------------------------------------------- ratios


def ratios(found: list[Result]) -> str:
    """Draw how many times our CPU seconds each peer takes, with quartiles."""
    bars = [(f"{case.title}, {result['size']}: {peer}", ratio["cpu"], case.goal)
            for case, result in found
            for peer, ratio in result["peer's seconds to ours"].items()
            if ratio["cpu"] and not peer.startswith("mfcore")][::-1]

    def draw(axes: Any) -> None:
        low, middle, high = np.array([each[1] for each in bars]).T
        places = np.arange(len(bars))
        axes.errorbar(middle, places, xerr=[middle - low, high - middle], fmt="o", color="C0",
                      label="median and quartiles")
        goals = [(goal, place) for place, (_, _, goal) in enumerate(bars) if goal]
        axes.scatter(*zip(*goals, strict=True), marker="|", s=120, color="C3", label="goal")
        axes.axvline(1, color="k", lw=1)
        axes.set(xscale="log", yticks=places, yticklabels=[each[0] for each in bars],
                 xlabel="CPU seconds of the peer to ours (right of 1: we are faster)")
        axes.legend(loc="lower right")

    return drawn(draw, (7.5, 0.9 + 0.24 * len(bars))) if bars else ""


# ------------------------------------------------------------------------- time to loss


def courses(found: list[Result]) -> Iterator[str]:
    """Draw, for each case that is watched, the figure by CPU seconds."""
    for case, result in found:
        if case.target is None:
            continue
        names = [name for name in case.contestants if name in result["rounds"][-1]]

        def draw(axes: Any, case: Any = case, result: Any = result, names: Any = names) -> None:
            for name, colour in colours(names).items():
                for n, turn in enumerate(each for each in result["rounds"] if name in each):
                    axes.plot(turn[name]["cpu"], turn[name]["figure"], ".-", color=colour,
                              alpha=0.8, lw=1, label=None if n else name)
            axes.set(xscale="log", title=f"{case.title}, {result['size']}", xlabel="CPU seconds",
                     ylabel=case.figure)
            if not case.higher:
                axes.set_yscale("log")
            axes.legend(fontsize=8)

        yield drawn(draw)


# ------------------------------------------------------------------------------- growth


def growing(folder: Path) -> Iterator[str]:
    """Draw seconds and memory by ratings and by factors."""
    found = read("growth", folder)
    kinds = dict.fromkeys(each["kind"] for each in found.get("points", ()))
    for name, across in tables.CURVES.items():
        for what, label in (("cpu", "CPU seconds of a sweep"), ("gigabytes", "GB, the peak")):
            if not any(what in each for kind in kinds for each in curve(found, name, kind)[1]):
                continue

            def draw(axes: Any, name: str = name, across: str = across, what: str = what,
                     label: str = label) -> None:
                for kind in kinds:
                    x, points = curve(found, name, kind)
                    y = [each[what] for each in points]
                    axes.plot(x, y, "o-", lw=1, label=f"{kind}, slope {tables.slope(x, y)}")
                axes.set(xscale="log", yscale="log", title=f"{name}: {label}",
                         xlabel={"millions": "ratings", "k": "factors"}[across])
                axes.legend(fontsize=8)

            yield drawn(draw)


# -------------------------------------------------------------------------- thirty days


def by_day(folder: Path) -> Iterator[str]:
    """Draw how good the lists are for the next day, and what a day costs."""
    found = tables.played(folder).get("models", ())
    for what, label in (("ndcg@10", "NDCG@10 of the next day"), ("cpu", "CPU seconds of a day")):
        if not found:
            return

        def draw(axes: Any, what: str = what, label: str = label) -> None:
            for n, model in enumerate(found):
                days = [each for each in model["days"] if each[what] > 1e-3]
                axes.plot([each["day"] for each in days], [each[what] for each in days], "o-",
                          ms=3, lw=1, color=f"C{n}", label=model["model"])
            axes.set(xlabel="day", ylabel=label, yscale="log" if what == "cpu" else "linear")
            axes.legend(fontsize=8)

        yield drawn(draw)


# ----------------------------------------------------------------------------- accuracy


def placed(folder: Path) -> Iterator[str]:
    """Draw figures of this library between those of others, protocol by protocol."""
    found = standings.figures(folder)
    for protocol in dict.fromkeys(each.protocol for each in found):
        here = [each for each in found if each.protocol == protocol][::-1]

        def draw(axes: Any, here: Any = here, protocol: str = protocol) -> None:
            for place, each in enumerate(here):
                axes.plot(each.value, place, "o", color="C0" if each.source == "here" else "C3",
                          fillstyle="full" if each.source == "here" else "none")
            axes.set(yticks=range(len(here)), xlabel=protocol,
                     yticklabels=[each.model[:44] for each in here])
            axes.tick_params(axis="y", labelsize=7)

        yield drawn(draw, (4.6, 0.9 + 0.17 * len(here)))


# --------------------------------------------------------------------------------- page


def section(title: str, says: str, *parts: str | Table, plots: Any = ()) -> str:
    """Return a part of the page; empty where there is nothing to show."""
    pictures = "".join(plots)
    inside = "".join(part if isinstance(part, str) else part.html() for part in parts
                     if isinstance(part, str) or part.rows)
    if not pictures and not inside:
        return ""
    grid = f"<div class=plots>{pictures}</div>" if pictures else ""
    return f"<h2>{html.escape(title)}</h2><p>{html.escape(says)}</p>{grid}{inside}"


def study(folder: Path) -> str:
    """Return the part on the claims; empty where none was tried."""
    found = claims.results(folder / "claims")
    links = "".join(f"<li><a href='#{each['claim']}'>{html.escape(each['says'])}</a>"
                    for each in found)
    return f"<h1 id=claims>The claims study</h1><ol>{links}</ol>{claims.pages(found)}" \
        if found else ""


def page(folder: Path = RESULTS) -> str:
    """Return the page."""
    found = list(results(folder))
    return "\n".join([
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width, initial-scale=1'>",
        f"<title>mfcore: benchmarks</title><style>{STYLE}</style>",
        f"<h1>mfcore and its peers</h1><p>{html.escape(tables.machine(folder))}</p>",
        section("Speed", "Every contestant in its own process, taking turns; ratios of each round, "
                "their median and quartiles.", f"<div class='wide broad'>{ratios(found)}</div>",
                tables.speed(folder)),
        section("Where a peer is ahead, or a goal is missed", "", tables.behind(folder)),
        section("On the way", "What is judged, by CPU seconds; one line a round.",
                plots=courses(found)),
        section("How cost grows", "Slopes are those of logarithms.", tables.growth(folder),
                plots=growing(folder)),
        section("Thirty days of purchases", "A model that is updated every evening, next to one "
                "that is fitted again and one that is left as it is.", tables.thirty_days(folder),
                plots=by_day(folder)),
        section("Against the limit", "Rates per CPU second, next to SGEMM and a copy in the same "
                "process.", tables.limits(folder)),
        section("Accuracy", "Filled: this library. Hollow: published figures, or other libraries "
                "run by us.", standings.accuracy(folder), plots=placed(folder)),
        section("What was asked and told", "", tables.settings(folder)), study(folder),
        "</html>", ""])
