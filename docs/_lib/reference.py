"""The pages of the reference, one per model and one per group of functions, out of docstrings.

Written into docs/reference/ before Sphinx reads its sources.  Parameters that a docstring has "as
in" another are spelled out from that one, and each parameter gets its default.  Pages of the path
say which models they explain, pages of models where they are explained.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from pydoc import locate
from typing import Any, NamedTuple

import mfcore
from mfcore.models.estimator import Estimator
from mfcore.models.recommender import Recommender
from mfcore.models.registry import MODELS, SENTENCES, entry, sentence
from mfcore.tuning.spaces import SPACES, described

# Where the path explains a model: the main page first.
EXPLAINED = {
    "MatrixFactorization": ("02_training", "01_minimal", "04_biases", "05_folding", "06_groups",
                            "16_time"),
    "ImplicitMF": ("05_folding", "06_groups"),
    "BPR": ("07_ranking", "12_losses"),
    "SoftmaxMF": ("12_losses", "07_ranking"),
    "BayesianMF": ("11_bayesian", "16_time", "17_levels"),
    "NeuralMF": ("08_neural",),
    "EASE": ("14_closed_form",),
    "SparseEASE": ("14_closed_form",),
    "ItemKNN": ("03_similarity",),
    "RP3Beta": ("03_similarity",),
    "PureSVD": ("14_closed_form",),
    "GraphFilter": ("14_closed_form",),
    "RatingAutoencoder": ("09_autoencoders",),
    "MultDAE": ("09_autoencoders", "10_variational"),
    "MultVAE": ("10_variational", "13_disentangling"),
    "RecVAE": ("10_variational",),
    "BiasOnly": ("04_biases",),
    "Popularity": ("07_ranking",),
    "Segmented": ("15_relatives",),
}


class Group(NamedTuple):
    """A page of functions and other classes: its title, a sentence, and names to document."""

    title: str
    says: str
    names: tuple[str, ...]
    example: str = ""


GROUPS = {
    "ratings": Group("Ratings", "What every model is fitted to.", ("mfcore.Ratings",), """\
>>> from mfcore import Ratings
>>> bought = Ratings.from_arrays(["ann", "ann", "bob"], ["tea", "cup", "tea"], [2, 1, 5])
>>> bought
Ratings(2 users × 2 items, 3 stored)
>>> bought.by_user.toarray()                        # columns are cup and tea
array([[1., 2.],
       [0., 5.]], dtype=float32)"""),
    "reading": Group("Reading and fetching", "From files, frames and published data sets; "
                     "[Your data](../data.md) goes by task.",
                     ("mfcore.read_ratings", "mfcore.fetch", "mfcore.data.convert")),
    "splits": Group("Splits", "Training and test parts.", ("mfcore.data.split",)),
    "features": Group("Features", "Of users and items, as matrices.", ("mfcore.data.features",)),
    "synthetic": Group("Generated ratings", "Data whose truth is known.",
                       ("mfcore.data.synthetic", "mfcore.data.glue")),
    "evaluation": Group("Evaluation and comparison",
                        "[Comparing](../comparing.md) and [metrics](../metrics.md) say which.",
                        ("mfcore.evaluate", "mfcore.cross_validate", "mfcore.compare",
                         "mfcore.metrics.comparison.Comparison",
                         "mfcore.metrics.comparison.Difference", "mfcore.evaluate_lists",
                         "mfcore.rerank")),
    "metrics": Group("Metrics", "Formulas and sources stand in a [table](../metrics.md).",
                     ("mfcore.metrics.rating", "mfcore.metrics.ranking")),
    "metrics_lists": Group("Metrics beyond accuracy",
                           "Of whole lists, and of folding.  "
                           "Formulas and sources stand in a [table](../metrics.md).",
                           ("mfcore.metrics.lists", "mfcore.metrics.folding")),
    "metrics_vectors": Group("Metrics of vectors, and paired differences",
                             "[Comparing](../comparing.md) says how intervals are found.",
                             ("mfcore.metrics.embedding", "mfcore.metrics.paired")),
    "tuning": Group("Tuning", "[Tuning](../tuning.md) says how and at what cost.",
                    ("mfcore.tune",)),
    "serving": Group("Saved models, compiled kernels, gradients",
                     "[Serving](../serving.md) goes by task.",
                     ("mfcore.load", "mfcore.serving", "mfcore.compile_kernels",
                      "mfcore.gradcheck"), """\
>>> from io import BytesIO
>>> from mfcore import Popularity, fetch, load
>>> model = Popularity().fit(fetch("planted").ratings)
>>> file = BytesIO()                                # or a path
>>> model.save(file)
>>> _ = file.seek(0)
>>> load(file)
Popularity()"""),
    "plots": Group("Plots", "They need matplotlib.", ("mfcore.plots",)),
    "clusters": Group("Clusters", "[More than one machine](../distributed.md) says when.",
                      ("mfcore.distributed",)),
    "testing": Group("Testing", "For models of your own.", ("mfcore.testing",)),
}
ONLY = {"mfcore.testing": "check_recommender, recommender_checks"}
# Methods that a part of the models has, and what the registry calls that.
NEEDS = {"update": "partial_fit", "partial_fit": "partial_fit", "partial_fit_items": "new_items",
         "forget": "forget", "similar_groups": "user_features",
         **{name: name for name in ("fold_in_users", "fold_in_items", "explain", "objective",
                                    "similar_items", "similar_users", "index_vectors")}}
CHANGING = ("fit", "update", "partial_fit", "partial_fit_items", "forget", "save", "get_params",
            "set_params")
ENTRY = re.compile(r"^(?P<names>\*?[\w*]+(?:, \*?[\w*]+)*)(?: : (?P<type>.*))?$")
ELSEWHERE = re.compile(r"\s*As in `([\w.]+)`(?P<rest>.*)", re.S)


# ------------------------------------------------------------------------- docstrings


class Entry(NamedTuple):
    """Parameters that are described together."""

    names: tuple[str, ...]
    type: str
    body: tuple[str, ...]           # lines, as indented as they were

    def lines(self) -> list[str]:
        """Return it as numpydoc writes it."""
        return [", ".join(self.names) + (f" : {self.type}" if self.type else ""), *self.body]


def split(lines: list[str]) -> tuple[list[str], list[Entry], list[str]]:
    """Return what a docstring has before, in and after its list of parameters."""
    try:
        start = lines.index("Parameters") + 2
    except ValueError:
        return lines, [], []
    stop = next((place for place in range(start, len(lines) - 1)
                 if re.fullmatch("-{3,}", lines[place + 1])), len(lines))
    entries: list[Entry] = []
    for line in lines[start:stop]:
        head = ENTRY.match(line)
        if head:
            entries.append(Entry(tuple(head["names"].split(", ")), head["type"] or "", ()))
        elif entries:
            entries[-1] = entries[-1]._replace(body=(*entries[-1].body, line))
    while entries and entries[-1].body and not entries[-1].body[-1].strip():
        entries[-1] = entries[-1]._replace(body=entries[-1].body[:-1])
    return lines[:start], entries, ["", *lines[stop:]]


def named(name: str, home: Any) -> Any:
    """Return what a docstring means by a name: of the package, of its class, or of its module."""
    for place in (mfcore, home, Recommender, inspect.getmodule(home)):
        try:
            return functools.reduce(getattr, name.split("."), place)
        except AttributeError:
            continue
    raise LookupError(f"{name} is not known where {home} is documented")


def spelled_out(home: Any, text: str) -> list[Entry]:
    """Return the parameters of a docstring, with those "as in" another one from there."""
    entries = []
    for each in split(text.splitlines())[1]:
        elsewhere = ELSEWHERE.match("\n".join(each.body))
        if not elsewhere or each.names[0].startswith("**"):
            entries.append(each)
            continue
        source = named(elsewhere[1], home)
        theirs = spelled_out(source, inspect.getdoc(source) or "")
        taken = [one for name in each.names for one in taken_from(theirs, name, each)]
        entries += with_remark(taken, re.sub(r"^[;,:.]\s*", "", elsewhere["rest"]).strip())
    return entries


def taken_from(theirs: list[Entry], name: str, written: Entry) -> list[Entry]:
    """Return the entry of a name, or what is written where they have none."""
    return [one._replace(names=(name,), type=written.type or one.type)
            for one in theirs if name in one.names] or [written._replace(names=(name,))]


def with_remark(entries: list[Entry], rest: str) -> list[Entry]:
    """Put what a class says of its own behind the parameters that it names, else the last."""
    if not rest:
        return entries
    marked = [one for one in entries
              if re.search(rf"\b{re.escape(one.names[0])}\b", rest)] or entries[-1:]
    remark = re.sub(r"^\w+ defaults to", "here the default is", " ".join(rest.split()))
    remark = remark[0].upper() + remark[1:]
    return [one._replace(body=(*(line.replace(" (the default)", "") for line in one.body),
                               f"    {remark}")) if one in marked else one for one in entries]


def with_defaults(entries: list[Entry], value: Any) -> list[Entry]:
    """Say the default of each parameter behind its type."""
    defaults = {name: each.default for name, each in inspect.signature(value).parameters.items()
                if each.default is not each.empty}
    told = []
    for each in entries:
        known = [repr(defaults[name]) for name in each.names if name in defaults]
        if known and "default" not in each.type:
            shown = ", ".join(known) if len(set(known)) > 1 else known[0]
            told.append(each._replace(type=f"{each.type}, default {shown}".lstrip(", ")))
        else:
            told.append(each)
    return told


def with_spaces(entries: list[Entry], value: Any) -> list[Entry]:
    """Say where `tune` looks for a parameter."""
    space = SPACES.get(getattr(value, "__name__", ""), {})
    return [each._replace(body=(*each.body, *(
        f"    :func:`tune <mfcore.tune>` looks in {described(space[name])}."
        for name in each.names if name in space))) for each in entries]


def complete(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    """Spell a docstring out before numpydoc reads it."""
    if what == "module" or "Parameters" not in lines:
        return
    before, _, after = split(list(lines))
    entries = spelled_out(value, "\n".join(lines))
    entries = with_defaults(with_spaces(entries, value), value)
    lines[:] = [*before, *(line for each in entries for line in each.lines()), *after]


# ------------------------------------------------------------------------------ pages


def title_of(page: str) -> str:
    """Return the title of a page of the path."""
    text = (Path(__file__).parents[1] / "path" / f"{page}.md").read_text(encoding="utf-8")
    return re.search(r"^# (.*)$", text, re.M)[1]      # type: ignore[index]


def own_methods(made: type) -> Iterator[str]:
    """Yield the public methods that a class has of its own, not those it supplies to the frame."""
    for name, member in vars(made).items():
        if not name.startswith("_") and inspect.isroutine(getattr(made, name)) \
                and name not in vars(Estimator) and inspect.getdoc(member):
            yield name


def shared_methods() -> Iterator[str]:
    """Yield the public methods that every model has."""
    yield from (name for name, member in vars(Recommender).items()
                if not name.startswith("_") and inspect.isfunction(member))
    yield from ("get_params", "set_params")


def summary(name: str) -> str:
    """Return the first line of what a shared method says."""
    return (inspect.getdoc(getattr(Recommender, name)) or "").split("\n\n")[0].replace("\n", " ")


def methods(made: type) -> str:
    """Return a table of the methods that a model shares with others, and why it lacks some."""
    lines, own = ["| method | |", "|---|---|"], set(own_methods(made))
    for name in shared_methods():
        if name in own:
            continue
        ability = NEEDS.get(name)
        answer = entry(made).answer(ability) if ability else "yes"
        says = summary(name)
        if answer == "no":
            says = f"– {sentence(made, name if name in SENTENCES else str(ability))}"
        elif answer != "yes":
            says = f"{says} Here {answer}."
        says = says.replace("|", "\\|")
        lines.append(f"| {{py:meth}}`{name} <mfcore.models.recommender.Recommender.{name}>` "
                     f"| {says} |")
    return "\n".join(lines)


def page_of_model(name: str) -> str:
    """Return the page of a model as Markdown."""
    made = getattr(mfcore, name)
    where = ", ".join(f"[{title_of(page)}](../path/{page}.md)" for page in EXPLAINED[name])
    own = "".join(f".. automethod:: mfcore.{name}.{method}\n\n" for method in own_methods(made))
    parts = [f"# {name}", f"Explained in {where}. On the command line: `--model "
             f"{MODELS[name].command}`. [What each model can do](../models.md) is one table.",
             f"```{{eval-rst}}\n.. autoclass:: mfcore.{name}\n```"]
    if own:
        parts += ["## Its own methods", f"```{{eval-rst}}\n{own}```"]
    return "\n\n".join([*parts, "## Methods that it shares", methods(made), ""])


def page_of_group(group: Group) -> str:
    """Return a page of functions as Markdown."""
    lines = []
    for name in group.names:
        value = locate(name)
        kind = ("automodule" if inspect.ismodule(value) else "autoclass"
                if inspect.isclass(value) else "autofunction")
        members = "" if kind == "autofunction" else f"   :members: {ONLY.get(name, '')}\n"
        lines.append(f".. {kind}:: {name}\n{members}")
    text = "\n".join(lines)
    example = f"```pycon\n{group.example}\n```\n\n" if group.example else ""
    return f"# {group.title}\n\n{group.says}\n\n{example}```{{eval-rst}}\n{text}\n```\n"


def page_of_methods(title: str, names: Iterable[str]) -> str:
    """Return a page of methods that models share."""
    text = "".join(f".. automethod:: mfcore.models.recommender.Recommender.{name}\n\n"
                   for name in names)
    return (f"# {title}\n\nA model that lacks one of these methods says why, and what to do "
            f"instead: [which can do what](../models.md).\n\n```{{eval-rst}}\n{text}```\n")


def pages() -> dict[str, str]:
    """Return all pages of the reference by name."""
    asked = [name for name in shared_methods() if name not in CHANGING]
    return {**{name: page_of_model(name) for name in MODELS},
            "methods": page_of_methods("Every model: asking", asked),
            "methods_fitting": page_of_methods("Every model: fitting, updating, saving", CHANGING),
            **{name: page_of_group(group) for name, group in GROUPS.items()}}


def write(app: Any) -> None:
    """Write pages that have changed, and remove those of names that are gone."""
    folder = Path(app.srcdir) / "reference"
    folder.mkdir(exist_ok=True)
    texts = pages()
    for old in folder.glob("*.md"):
        if old.stem not in texts:
            old.unlink()
    for name, text in texts.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def back(app: Any, docname: str, source: list[str]) -> None:
    """Say under the title of a page of the path which models it explains."""
    names = [name for name, where in EXPLAINED.items() if docname.removeprefix("path/") in where]
    if docname.startswith("path/") and names:
        links = ", ".join(f"[{name}](../reference/{name}.md)" for name in names)
        source[0] = re.sub(r"^(# .*)$", rf"\1\n\nIn the library: {links}.", source[0], count=1,
                           flags=re.M)


def setup(app: Any) -> dict[str, bool]:
    """Write pages before sources are read; hear of docstrings before numpydoc does."""
    hooks: dict[str, Callable[..., None]] = {
        "builder-inited": write, "source-read": back, "autodoc-process-docstring": complete}
    for event, hook in hooks.items():
        app.connect(event, hook, priority=100)
    return {"parallel_read_safe": True}
