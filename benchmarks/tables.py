"""Tables of the results, for Markdown and for HTML; figures come from result files alone."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.case import Case
from benchmarks.cases import CASES
from benchmarks.harness import RESULTS, summarised
from mfcore.solvers.als import LARGE

SIZES = ("large", "medium", "small")


class Table(NamedTuple):
    """A heading, and cells of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def html(self) -> str:
        """Return the table as HTML."""
        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) \
                + "</tr>"

        body = "\n".join(line(row, "td") for row in self.rows)
        return f"<div class=wide><table><thead>{line(self.head, 'th')}</thead>\n" \
               f"<tbody>{body}</tbody></table></div>"


class Result(NamedTuple):
    """A case and what was measured at one size."""

    case: Case
    found: dict[str, Any]


def read(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """Return a result file, or nothing."""
    path = folder / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def results(folder: Path = RESULTS) -> Iterator[Result]:
    """Yield what was measured of each case, at every size, the largest first."""
    for case in CASES.values():
        for size in SIZES:
            if (found := read(f"{case.name}_{size}", folder)).get("rounds"):
                yield Result(case, summarised(case, found))


# ------------------------------------------------------------------------------- speed


def spread(quartiles: Sequence[float] | None) -> str:
    """Return a median and its quartiles."""
    if not quartiles:
        return "–"
    low, middle, high = (f"{each:.3g}" if each < 100 else f"{each:.0f}" for each in quartiles)
    return f"{middle} ({low}–{high})"


def memory(runs: Sequence[dict[str, Any]]) -> str:
    """Return the median peak in gigabytes, where it was measured."""
    found = [run["gigabytes"] for run in runs if "gigabytes" in run]
    return f"{np.median(found):.2f}" if found else "–"


def speed_rows(result: Result) -> Iterator[list[str]]:
    """Yield a row for each peer, and the reason for each that came to no result."""
    case, found = result
    for peer, ratio in found["peer's seconds to ours"].items():
        both = [turn for turn in found["rounds"] if {"mfcore", peer} <= set(turn)]
        runs = {name: [turn[name] for turn in both] for name in ("mfcore", peer)}
        yield [case.title, found["size"], peer, spread(ratio["cpu"]), spread(ratio["wall"]),
               *("never" if each is None else f"{each:.3g}" for each in ratio["cpu seconds"]),
               *map(memory, runs.values()),
               f"{case.goal:g}" if case.goal and not peer.startswith("mfcore") else "",
               str(ratio["rounds"])]
    for peer, why in found["skipped"].items():
        if peer not in found["peer's seconds to ours"]:
            yield [case.title, found["size"], peer, why, *[""] * 7]


def speed(folder: Path = RESULTS) -> Table:
    """Return how many times the seconds of this library each peer takes."""
    return Table(
        ["case", "size", "peer", "CPU seconds, theirs to ours", "wall", "ours, CPU s",
         "theirs, CPU s", "ours, GB", "theirs, GB", "goal", "rounds"],
        [row for result in results(folder) for row in speed_rows(result)])


def verdict(middle: float, reached: dict[str, int]) -> str:
    """Return in words what a ratio below its goal says."""
    if middle:
        return "the peer is faster" if middle < 1 else "short of the goal"
    return "the peer alone reaches the figure" if not reached["mfcore"] else "not reached by it"


def behind(folder: Path = RESULTS) -> Table:
    """Return where a peer is faster, or a goal is missed."""
    found = []
    for case, result in results(folder):
        for peer, ratio in result["peer's seconds to ours"].items():
            if peer.startswith("mfcore"):
                continue
            middle = ratio["cpu"][1] if ratio["cpu"] else 0.0
            if middle < (case.goal or 1):
                found.append([case.title, result["size"], peer, f"{middle:.3g}" if middle else "–",
                              f"{case.goal or 1:g}", verdict(middle, ratio["reached it"])])
    return Table(["case", "size", "peer", "CPU seconds, theirs to ours", "goal", ""], found)


def settings(folder: Path = RESULTS) -> Table:
    """Return what each contestant was told, and what came out at the end."""
    return Table(["case", "size", "all minimise or answer", "contestant", "settings",
                  "what is judged", "at the end"],
                 [[case.title, found["size"], case.says, name,
                   found["settings"].get(name, ""), case.figure,
                   f"{np.median([turn[name]['figure'][-1] for turn in turns]):.6g}"]
                  for case, found in results(folder) for name in case.contestants
                  if (turns := [turn for turn in found["rounds"] if name in turn])])


def first_calls(folder: Path = RESULTS) -> Table:
    """Return seconds of the first call on a few rows, compiled before or never."""
    rows = [[case.title, found["size"],
             f"{np.median([turn['mfcore']['first call'] for turn in turns]):.2g}"]
            for case, found in results(folder)
            if (turns := [turn for turn in found["rounds"] if "mfcore" in turn])]
    return Table(["case", "size", "first call, wall s"], rows)


def machine(folder: Path = RESULTS) -> str:
    """Return what the figures were measured on."""
    found = [result["environment"] | {"title": f"{case.title}, {result['size']}", "load": [
        x for turn in result["rounds"] for x in turn["load"]]} for case, result in results(folder)]
    if not found:
        return "Nothing is measured yet."
    load = np.percentile([x for each in found for x in each["load"]], [0, 50, 100])
    kinds: dict[str, list[str]] = {}
    for each in found:
        kinds.setdefault(described(each), []).append(each["title"])
    first, *others = sorted(kinds, key=lambda kind: -len(kinds[kind]))
    return (first + "".join(f". On {kind}: {'; '.join(kinds[kind])}" for kind in others)
            + f". Other work was on the machine: load {load[0]:.0f} to {load[2]:.0f}, median "
              f"{load[1]:.0f}, so that CPU seconds are what to read.")


def described(one: dict[str, Any]) -> str:
    """Return an environment as text."""
    return (f"{one['cpu']}, {one['cpus']} cores, {one['threads']} threads for everybody; "
            f"{'; '.join(one['blas'])}; Python {one['python']}; "
            + ", ".join(f"{name} {each}" for name, each in one["versions"].items()))


# ------------------------------------------------------------------------------ growth

CURVES = {"fixed": "millions", "growing": "millions", "factors": "k"}


def curve(found: dict[str, Any], name: str, kind: str) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return what grows, and the points in its order."""
    across = {"millions": "nnz", "k": "k"}[CURVES[name]]
    points = sorted((each for each in found.get("points", ())
                     if (each["curve"], each["kind"]) == (name, kind)), key=lambda p: p[across])
    return np.array([each[across] for each in points], float), points


def slope(x: np.ndarray, y: Sequence[float]) -> str:
    """Return the slope in a plot of logarithms."""
    return f"{np.polyfit(np.log(x), np.log(y), 1)[0]:.2f}" if len(x) > 1 else "–"


def growth(folder: Path = RESULTS) -> Table:
    """Return seconds of a sweep by ratings and by factors, and slopes."""
    found, rows = read("growth", folder), []
    for name, across in CURVES.items():
        for kind in dict.fromkeys(each["kind"] for each in found.get("points", ())):
            x, points = curve(found, name, kind)
            if points:
                unit = "M" if across == "millions" else ""
                rows.append([name, kind, ", ".join(
                    f"{each[across]}{unit}: {each['cpu']:.3g}" for each in points),
                    slope(x, [each["cpu"] for each in points]),
                    memory(points[-1:]),
                    slope(x, [each["gigabytes"] for each in points])
                    if all("gigabytes" in each for each in points) else "–"])
    return Table(["curve", "what", "CPU seconds", "slope", "GB at the end", "slope"], rows)


def played(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the thirty days at the largest size on file."""
    return next((found for size in SIZES if (found := read(f"thirty_days_{size}", folder))), {})


def thirty_days(folder: Path = RESULTS) -> Table:
    """Return what models come to that are updated, fitted again, or left as they are."""
    found = played(folder).get("models", ())
    measured = [{each["day"] for each in model["days"]} for model in found]
    common = sorted(set.intersection(*measured)) if measured else []
    thirds = [[day for day in common if low < day <= low + 10] for low in (0, 10, 20)]
    rows = []
    for model in found:
        by_day = {each["day"]: each for each in model["days"]}
        rows.append([
            model["model"], *(f"{np.mean([by_day[day]['ndcg@10'] for day in some]):.4f}"
                              if some else "–" for some in thirds),
            *(f"{np.mean([each[what] for each in by_day.values()]):.3g}"
              for what in ("cpu", "wall")),
            f"{np.mean([each['cpu'] for each in by_day.values()]) / model['first fit']:.1%}",
            f"{np.median([each['ms'] for each in by_day.values()]):.2g}",
            f"{np.median([each['ms, 99 %'] for each in by_day.values()]):.2g}",
            memory([model]), f"{model['stale']:.2%}" if "stale" in model else "–"])
    return Table(["a model that is", "NDCG@10 of the next day, days 1–10", "11–20", "21–30",
                  "CPU s a day", "wall s", "of a fit", "ms a request, CPU", "99 %", "GB, the peak",
                  "stale at the end"], rows)


def work(point: dict[str, Any]) -> tuple[float, float | None]:
    """Return the floating-point operations of a sweep, and the bytes that ALS and SGD move.

    Conjugate gradient with one step: 9 per cell and factor on each side, and a vector, of two bytes
    a number where its side is large, with 8 bytes of the cell.  Exact: nnz k^2 per side (a
    symmetric product) and k^3 / 3 per row.  SGD: 10 k operations and 16 k + 12 bytes per rating.
    """
    nnz, k, rows = point["nnz"], point["k"], point["users"] + point["items"]
    if point["kind"] == "sgd":
        return 10.0 * nnz * k, nnz * (16.0 * k + 12)
    if point["kind"] == "als":
        numbers = sum(2 if 4 * n * k >= LARGE else 4 for n in (point["users"], point["items"]))
        return 18.0 * nnz * k, nnz * (numbers * k + 16.0)
    return {"exact": 2.0 * nnz * k**2 + rows * (k**3 / 3 + 3 * k**2),
            "top ten": 2.0 * 10_000 * point["items"] * k}[point["kind"]], None


def limits(folder: Path = RESULTS) -> Table:
    """Return rates of the kernels next to those of SGEMM and of a copy in the same process.

    "of the floor" is the time of touching the vectors, by that of the sweep.  Points of ALS from
    before that was measured are of kernels with other work, and are left out.
    """
    rows = []
    for kind in dict.fromkeys(each["kind"] for each in read("growth", folder).get("points", ())):
        for point in curve(read("growth", folder), "factors", kind)[1]:
            if kind == "als" and "floor" not in point:
                continue
            flops, moved = work(point)
            rate, bytes_rate = (None if each is None else each / 1e9 / point["cpu"]
                                for each in (flops, moved))
            rows.append([kind, str(point["k"]), f"{rate:.1f}", f"{point['GF/s']:.0f}",
                         f"{rate / point['GF/s']:.0%}",
                         "" if bytes_rate is None else f"{bytes_rate:.1f}",
                         f"{point['GB/s']:.1f}",
                         f"{point['floor'] / point['cpu']:.0%}" if "floor" in point else ""])
    return Table(["what", "k", "GF/s", "SGEMM", "share", "GB/s", "copy", "of the floor"], rows)


# ------------------------------------------------------------------- defaults and tuning

def tuning(folder: Path = RESULTS) -> Table:
    """Return figures of `tune` and of a random search on test parts, and their CPU-seconds."""
    found = read("tuning", folder).get("rows", {})
    ways = ("given", "tuned", "longer", "random")
    return Table(
        ["model and data", "metric", "defaults", "tune, 8 fits", "tune, a fifth of the search",
         "random search", *(f"{each}, CPU s" for each in (
             "one fit", "tune, 8 fits", "tune, a fifth", "random search"))],
        [[name, row["metric"], *(f"{row[way]['figure']:.4f}" if way in row else "" for way in ways),
          *(f"{row[way]['cpu_seconds']:.3g}" if way in row else "" for way in ways)]
         for name, row in found.items()])


def floors(metric: str, folder: Path = RESULTS) -> Table:
    """Return what each model with its defaults adds to biases or popularity, by data."""
    found = read("floors", folder).get("data", {}).get(metric, {})
    names = list(dict.fromkeys(name for data in found.values() for name in data["models"]))

    def cell(row: dict[str, Any] | None) -> str:
        if row is None:
            return ""
        return f"{row['gain']:+.3f}{' (behind)' if row['behind'] else ''}" if "gain" in row \
            else f"{row['figure']:.3f}"

    return Table(["data", *names], [[name, *(cell(data["models"].get(each)) for each in names)]
                                    for name, data in found.items()])


def latency(folder: Path = RESULTS) -> Table:
    """Return what single requests cost, in CPU-milliseconds."""
    return Table(["items", "ids", "request", "median", "99th percentile"],
                 [[f"{row['items']:,}", row["ids"], row["kind"], f"{row['median']:.2f}",
                   f"{row['p99']:.2f}"] for row in read("latency", folder).get("rows", ())])


def seeds(folder: Path = RESULTS) -> Table:
    """Return how often `compare` called two seeds different, and a planted difference."""
    found = read("seeds", folder)
    return Table(["metric", "planted difference", "trials", "two seeds called different",
                  "planted difference found"],
                 [[task["metric"], task["task"], str(found["trials"]), str(task["seeds called"]),
                   str(task["planted called"])] for task in found.get("tasks", ())])


def ranking(folder: Path = RESULTS) -> Table:
    """Return figures of tuned models on choices, and how their NDCG@20 differs from SoftmaxMF's."""
    rows = []
    for name, found in read("ranking", folder).get("data", {}).items():
        differences = {each["first"]: each for each in found["differences"]
                       if each["metric"] == "ndcg@20"}
        for model, values in sorted(found["values"].items(), key=lambda one: -one[1]["ndcg@20"]):
            each, seconds = differences.get(model), found["cpu_seconds"].get(model)
            rows.append([name, model, f"{values['ndcg@20']:.4f}", f"{values['recall@20']:.4f}",
                         "" if each is None else f"{each['difference']:+.4f} ({each['low']:+.4f} "
                                                 f"to {each['high']:+.4f})",
                         "" if each is None else each["verdict"],
                         "–" if seconds is None else f"{seconds:.1f}"])
    return Table(["data", "model", "NDCG@20", "Recall@20", "NDCG@20 less that of SoftmaxMF", "",
                  "CPU seconds"], rows)


def closed_forms(folder: Path = RESULTS) -> Table:
    """Return CPU-seconds of closed forms on large generated choices, and figures."""
    return Table(["data", "model", "fit, CPU s", "lists of all users, CPU s", "NDCG@20"],
                 [[name, model, f"{row['fit']:.1f}", f"{row['lists']:.1f}",
                   f"{row['ndcg@20']:.4f}"]
                  for name, found in read("closed_forms", folder).get("data", {}).items()
                  for model, row in found.items()])


def million(folder: Path = RESULTS) -> Table:
    """Return what a million users and items take."""
    return Table(["model", "fit, CPU s", "lists of 10,000 users, CPU s", "peak, GB", "load"],
                 [[model, f"{row['fit']:.0f}", f"{row['lists']:.0f}", f"{row['gigabytes']:.1f}",
                   f"{row['load']:.0f}"]
                  for model, row in read("million", folder).get("models", {}).items()])


def defaults(metric: str, folder: Path = RESULTS) -> Table:
    """Return figures of defaults on test parts, and seconds of a fit next to those of 0.1.0."""
    data = read("defaults", folder).get("data", {}).get(metric, {})
    kept = {name: each["test"] for name, each in data.items() if "test" in each}
    models = list(dict.fromkeys(model for row in kept.values() for model in row))
    main = next((model.partition(",")[0] for model in models if "0.1.0" in model), "")

    def figure(found: dict[str, Any], model: str) -> str:
        return f"{found[model]['figure']:.4f}" if model in found else "–"

    return Table(
        ["data", "what they are like", *models, "its fit to that of 0.1.0"],
        [[name, data[name]["says"], *(figure(found, model) for model in models),
          f"{found[main]['cpu_seconds'] / found[f'{main}, 0.1.0']['cpu_seconds']:.2f}"]
         for name, found in kept.items()])


# ---------------------------------------------------------------------------- sampling

def ingredients(folder: Path = RESULTS) -> Table:
    """Return what each ingredient takes from the RMSE on ML-100K, with intervals of 95 %."""
    return Table(["added", "to", "change of RMSE", "from", "to (95 %)"],
                 [[row["ingredient"], row["added to"], f"{row['difference']:+.4f}",
                   f"{row['low']:+.4f}", f"{row['high']:+.4f}"]
                  for row in read("ml100k_bayesian", folder).get("paired", ())])


def shares_of_levels(folder: Path = RESULTS) -> Table:
    """Return expected and observed shares of levels on ML-100K."""
    found = [row for row in read("ml100k_bayesian", folder).get("rows", ())
             if "share of each level" in row]
    return Table(["stars", *map(str, range(1, 6)), "largest difference"],
                 [line for row in found for line in _shares(**row["share of each level"])])


def _shares(expected: Sequence[float], observed: Sequence[float]) -> Iterator[list[str]]:
    largest = max(abs(one - other) for one, other in zip(expected, observed, strict=True))
    yield ["expected", *(f"{share:.4f}" for share in expected), ""]
    yield ["observed", *(f"{share:.4f}" for share in observed), f"{largest:.4f}"]


def gibbs(folder: Path = RESULTS) -> Table:
    """Return CPU-seconds of a sweep of the sampler, whole vectors and blocks of factors."""
    found = read("gibbs", folder)
    names = [row["solver"] for row in found.get("slopes", ())]
    rows = [[f"{row['ratings']:,}", str(row["factors"]), *(f"{row[name]:.2f}" for name in names)]
            for row in found.get("sweeps", ())]
    slopes = [[f"slope {axis}", "", *(f"{row[axis]:.2f}" for row in found["slopes"])]
              for axis in ("in ratings, 256 factors", "in factors, 1M ratings")] if rows else []
    return Table(["ratings", "factors", *names], rows + slopes)
