"""The commands of `mfcore`, their options and the help texts."""

from __future__ import annotations

import os
import re
from argparse import (
    SUPPRESS,
    ArgumentParser,
    BooleanOptionalAction,
    RawDescriptionHelpFormatter,
    _ActionsContainer,
)
from collections.abc import Callable
from textwrap import dedent
from typing import Any, NoReturn

import mfcore
from mfcore import validation
from mfcore.cli.commands import convert, evaluate, fetch, fit, recommend, similar, tune
from mfcore.cli.compare import compare
from mfcore.cli.compile import compile_
from mfcore.cli.demo import PICTURE, demo
from mfcore.cli.info import info
from mfcore.cli.models import CLASSES, ESTIMATORS, FIRST, command_of
from mfcore.cli.output import Answer, Listing, shown
from mfcore.metrics.table import METRICS
from mfcore.models.registry import MODELS

DATA = "a data set by name (see mfcore fetch), or a ratings file: csv, tsv, ::, gz, parquet"
MODEL = "a file written by mfcore fit"
TITLES = "show titles: of a data set by name, or of a file with an id and a title on each line"

MEASURES = [name for name, kind in METRICS.items()      # (of what a command line can give)
            if not {"groups", "item_features"} & set(kind.needs)]


class Parser(ArgumentParser):
    """A parser whose complaints quote words of the command line without what terminals act upon."""

    def error(self, message: str) -> NoReturn:
        """End with a usage error, and with the word that may have been meant."""
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)$", message)
        unknown = re.match(r"unrecognized arguments: (--[\w-]+)", message)
        if choice is not None:
            message += validation.meant(choice[1], re.findall(r"[\w-]+", choice[2]))
        elif unknown is not None and unknown[1] not in (options := _all_options(self)):
            message += validation.meant(unknown[1], options)
        super().error(message)

    def _print_message(self, message: str, file: Any = None) -> None:
        super()._print_message("\n".join(map(shown, message.split("\n"))), file)


def _all_options(parser: ArgumentParser) -> list[str]:
    """Return the options of all commands."""
    commands = [command for action in parser._actions
                for command in (action.choices or {} if isinstance(action.choices, dict) else {}
                                ).values()]
    return [option for command in commands for option in command._option_string_actions]


def build_parser() -> ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="mfcore", formatter_class=RawDescriptionHelpFormatter,
        description="Recommenders of the matrix factorization family: fit, recommend, measure.",
        epilog=_examples("""
            mfcore demo
            mfcore fit ml-100k --out films.mfcore
            mfcore recommend films.mfcore --user 196 --titles ml-100k
            mfcore evaluate ml-100k --model mf --folds 5"""))
    parser.add_argument("--version", action="version", version=f"mfcore {mfcore.__version__}")
    kinds = parser.add_subparsers(title="commands", metavar="command", required=True)
    for add in (_demo, _fetch, _convert, _fit, _tune, _recommend, _similar, _evaluate, _compare,
                _compile, _info):
        add(kinds)
    return parser


# -------------------------------------------------------------------------- the commands


def _demo(kinds: Any) -> None:
    parser = _command(kinds, demo, "train a ladder of models and compare them", """
        Train Popularity, BiasOnly and four factorizations, each with one idea more than the
        one before, and print what each idea gains, with recommendations for a few users.
        Settings are chosen on a validation part of the training ratings.  If the data have
        audiences that share no ratings, a second table shows how a weight on unknown cells
        affects recommendations across them, and a picture shows where the items lie.""", """
            mfcore demo
            mfcore demo --data planted-audiences
            mfcore demo --data ml-100k --json""")
    parser.add_argument("--data", default="planted-stars", metavar="DATA",
                        help=f"{DATA} (planted-stars)")
    parser.add_argument("--seed", type=int, default=0, help="for all random draws (0)")
    parser.add_argument("--titles", metavar="DATA|FILE", help=TITLES)
    parser.add_argument("--picture", default=PICTURE, metavar="FILE",
                        help=f"where to draw audiences, if there are any; or none ({PICTURE})")
    _add_threads(parser)
    _add_file_options(parser)


def _fetch(kinds: Any) -> None:
    parser = _command(kinds, fetch, "get a data set, or list those known by name", """
        Get a data set: from the folder that MFCORE_DATA names, from the cache, or downloaded
        into the cache.  Without a name, list the data sets and where they are.""", """
            mfcore fetch
            mfcore fetch ml-100k
            mfcore fetch planted --csv ratings.csv""")
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of the data set")
    parser.add_argument("--csv", metavar="FILE", help="also write the ratings to this file")


def _convert(kinds: Any) -> None:
    parser = _command(kinds, convert, "sort files larger than memory into a folder", """
        Sort ratings files, or folders of such files, into one folder, which is mapped from
        disk and accepted wherever DATA is.  An interrupted run resumes when called again.""", """
            mfcore convert ratings.csv --out ratings.folder
            mfcore convert part-*.parquet --out plays.folder --memory 8GB --duplicates sum
            mfcore fit plays.folder --model implicit --out plays.mfcore""")
    parser.add_argument("files", nargs="+", metavar="FILES", help="csv, tsv, ::, gz, parquet")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="the folder to make")
    parser.add_argument("--memory", default="2GB", metavar="SIZE",
                        help="memory to sort in, besides the ids of users and items (2GB)")
    _add_file_options(parser)


def _fit(kinds: Any) -> None:
    parser = _command(kinds, fit, "learn a model from ratings and save it", """
        Learn a model from ratings and save it to a file.  The defaults are those of the
        Python classes; --set reaches every parameter.""", """
            mfcore fit ml-100k --out films.mfcore
            mfcore fit ratings.csv --out m.mfcore --factors 32 --reg 0.05 --bias learned
            mfcore fit plays.tsv.gz --model implicit --out plays.mfcore --set alpha=10
            mfcore fit clicks.csv --rating-column none --duplicates sum --model implicit
                --out clicks.mfcore
            mfcore fit ml-100k --model multdae --set hidden=600 --out choices.mfcore
            mfcore fit ml-100k --model segmented --estimator ease --by gender --out two.mfcore
            """)
    parser.add_argument("data", metavar="DATA", help=DATA)
    parser.add_argument("--out", required=True, metavar="FILE", help="the model file to write")
    _add_model_options(parser, default=FIRST)
    _add_file_options(parser)


def _tune(kinds: Any) -> None:
    parser = _command(kinds, tune, "choose the parameters of a model on held-out ratings", """
        Try many settings on a share of the data, go on with the best ones, and fit the model to
        all ratings with what was found.  Options of the model are where the search begins.""", """
            mfcore tune ml-100k --model mf --out films.mfcore
            mfcore tune plays.csv --model implicit --metric ndcg@20 --budget 12
                --space reg=0.1:100 alpha=1,4,16 --out plays.mfcore""")
    parser.add_argument("data", metavar="DATA", help=DATA)
    parser.add_argument("--out", metavar="FILE", help="the model file to write")
    parser.add_argument("--metric", metavar="NAME", help="such as rmse or ndcg@20")
    parser.add_argument("--budget", type=float, default=8.0, metavar="FITS",
                        help="what the search may cost, in fits to all ratings (8)")
    parser.add_argument("--validation", type=float, default=0.1, metavar="SHARE",
                        help="share of the ratings to hold out (0.1)")
    parser.add_argument("--space", nargs="+", default=[], metavar="NAME=VALUES",
                        help="where to look: NAME=LOW:HIGH or NAME=VALUE,VALUE,...")
    _add_model_options(parser, default=FIRST)
    _add_file_options(parser)


def _recommend(kinds: Any) -> None:
    parser = _command(kinds, recommend, "the best items for users, known or new", """
        Print the best items for users of the model, or for new users whose ratings are in a
        file.  Items that a user has rated are left out.""", """
            mfcore recommend films.mfcore --user 196 186 --k 5 --titles ml-100k
            mfcore recommend films.mfcore --ratings new_users.csv --json
            mfcore recommend films.mfcore --all --items-file in_stock.txt --json
            mfcore recommend films.mfcore --all --out lists.csv""")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", nargs="+", metavar="ID", help="users of the model")
    who.add_argument("--users-file", metavar="FILE", help="a file with one user per line")
    who.add_argument("--all", action="store_true", help="all users of the model")
    who.add_argument("--ratings", metavar="FILE", help="ratings of new users, as for fit")
    parser.add_argument("--k", type=int, default=10, metavar="K", help="items per list (10)")
    parser.add_argument("--cosine", action="store_true",
                        help="rank by the angle between vectors, not by the score")
    parser.add_argument("--include-seen", action="store_true",
                        help="also list items that the user has rated")
    for name, text in (("items", "only these items"), ("exclude", "none of these items")):
        either = parser.add_mutually_exclusive_group()
        either.add_argument(f"--{name}", nargs="+", metavar="ID", help=text)
        either.add_argument(f"--{name}-file", metavar="FILE",
                            help=f"{text}: a file with one per line")
    parser.add_argument("--unknown", choices=("raise", "ignore"), default="raise",
                        help="ids that the model does not know: stop at them (raise), or answer "
                             "such a user like one without ratings, and leave such items out")
    parser.add_argument("--titles", metavar="DATA|FILE", help=TITLES)
    parser.add_argument("--out", metavar="FILE",
                        help="write a row per recommendation to a .csv, .csv.gz, .parquet or .npy "
                             "file; a call that was interrupted goes on where it was")
    parser.add_argument("--memory", default="256MB", metavar="SIZE",
                        help="memory to write in, besides the model (256MB)")
    _add_threads(parser)
    _add_file_options(parser)


def _similar(kinds: Any) -> None:
    parser = _command(kinds, similar, "items like items, or users like users", """
        Print the nearest neighbours of items (or users) among the vectors of a model.""", """
            mfcore similar films.mfcore --item 50 --titles ml-100k
            mfcore similar films.mfcore --user 196 --k 3 --json""")
    parser.add_argument("model", metavar="MODEL", help=MODEL)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--item", nargs="+", metavar="ID", help="items of the model")
    what.add_argument("--user", nargs="+", metavar="ID", help="users of the model")
    parser.add_argument("--k", type=int, default=10, metavar="K", help="neighbours per list (10)")
    parser.add_argument("--dot", action="store_true", help="rank by scalar product, not by angle")
    parser.add_argument("--titles", metavar="DATA|FILE", help=TITLES)
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of that file (utf-8)")
    _add_threads(parser)


def _evaluate(kinds: Any) -> None:
    parser = _command(kinds, evaluate, "measure a saved model, or cross-validate one", """
        Measure a model file on test ratings, or, with --model, fit and measure a model on
        each of several folds of a data set.""", """
            mfcore evaluate films.mfcore test.csv --metrics rmse ndcg@10
            mfcore evaluate ml-100k --model mf --folds 5
            mfcore evaluate ml-100k --model mf --file-folds --metrics rmse""")
    parser.add_argument("subject", metavar="MODEL|DATA",
                        help="a model file; with --model, the data to cut into folds")
    parser.add_argument("test", nargs="?", metavar="TEST", help=f"test ratings: {DATA}")
    parser.add_argument("--fold-in", metavar="FILE",
                        help="known ratings of the test users, who are then treated as new")
    _add_measures(parser, [5, 10, 20])
    _add_model_options(parser, default=None)
    _add_file_options(parser)


def _compare(kinds: Any) -> None:
    parser = _command(kinds, compare, "which of several models is better, and how surely", """
        Compare models by name on the same folds of a data set, or model files on test ratings.
        Each difference has an interval, and a verdict that takes users, folds and seeds into
        account.""", """
            mfcore compare ml-100k mf bayesian bias --metrics rmse
            mfcore compare ml-100k implicit implicit:alpha=10 ease --metrics ndcg@10 --folds 10
            mfcore compare test.csv old.mfcore new.mfcore --baseline old.mfcore""")
    parser.add_argument("data", metavar="DATA", help=f"ratings to cut into folds, or test "
                                                     f"ratings: {DATA}")
    parser.add_argument("models", nargs="+", metavar="MODEL",
                        help="NAME, NAME:PARAMETER=VALUE, or a file written by mfcore fit")
    _add_measures(parser, [10])
    parser.add_argument("--baseline", metavar="MODEL", help="compare all others with this one")
    parser.add_argument("--confidence", type=float, default=0.99, metavar="X",
                        help="of intervals and verdicts (0.99)")
    parser.add_argument("--method", choices=("t", "bootstrap", "permutation"), default="t",
                        help="of intervals and p-values (t)")
    parser.add_argument("--refits", type=int, default=4, metavar="N",
                        help="fits of each model file with other seeds (4); 0: as they are")
    parser.add_argument("--plot", metavar="FILE", help="draw the differences")
    parser.add_argument("--seed", type=int, default=0, help="for all random draws (0)")
    _add_threads(parser)
    _add_file_options(parser)


def _compile(kinds: Any) -> None:
    parser = _command(kinds, compile_, "compile kernels ahead, as for the image of a service", """
        Compile what models need, and keep it on disk for all processes to come, which may find
        the folder read-only.  mfcore info --check tells whether all of it is there.""", """
            mfcore compile
            mfcore compile --models mf implicit""")
    parser.add_argument("--models", nargs="+", type=command_of, choices=ESTIMATORS,
                        metavar="NAME", help="as for fit (all)")


def _info(kinds: Any) -> None:
    parser = _command(kinds, info, "what a model file holds; versions, threads, folders", """
        Print what a model file holds, or, without one, what the results and their speed may
        depend on.""", """
        mfcore info films.mfcore
        mfcore info
        mfcore info --check""")
    parser.add_argument("model", nargs="?", metavar="MODEL", help=MODEL)
    parser.add_argument("--check", action="store_true",
                        help="fit a few small models and compare with known answers")


# ------------------------------------------------------------------------- shared options


def _command(kinds: Any, function: Callable[..., Answer | Listing], short: str, long: str,
             examples: str) -> ArgumentParser:
    """Add a command that has the name of its function."""
    parser: ArgumentParser = kinds.add_parser(
        function.__name__.rstrip("_"), help=short, description=dedent(long).strip(),
        epilog=_examples(examples), formatter_class=RawDescriptionHelpFormatter)
    parser.set_defaults(command=function, usage_error=parser.error)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="show no progress bars")
    parser.add_argument("--traceback", action="store_true", help=SUPPRESS,
                        default=bool(os.environ.get("MFCORE_TRACEBACK")))
    return parser


def _examples(text: str) -> str:
    lines = dedent(text).strip().splitlines()
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


def _add_measures(parser: ArgumentParser, k: list[int]) -> None:
    """Add what is measured, and the folds."""
    parser.add_argument("--metrics", nargs="+", metavar="NAME",
                        help=f"such as ndcg@10 (several): {', '.join(MEASURES)}")
    parser.add_argument("--k", type=int, nargs="+", default=k, metavar="K",
                        help=f"cut-offs of metrics named without one ({' '.join(map(str, k))})")
    parser.add_argument("--threshold", type=float, metavar="RATING",
                        help="lowest rating that counts as relevant (all count)")
    parser.add_argument("--include-seen", action="store_true",
                        help="also rank items that users rated in training")
    parser.add_argument("--folds", type=int, default=5, metavar="N", help="number of folds (5)")
    parser.add_argument("--file-folds", action="store_true",
                        help="cut folds from consecutive lines of the source, as ML-100K's u1 "
                             "to u5 are")


def _add_threads(parser: _ActionsContainer) -> None:
    parser.add_argument("--threads", type=int, metavar="N",
                        help="threads to use (all CPUs); results do not depend on it")


def _add_model_options(parser: ArgumentParser, default: str | None) -> None:
    lines = (f"{entry.command:11s}  {entry.name:19s}  {entry.summary}"
             for entry in MODELS.values())
    group = parser.add_argument_group("the model", "\n".join(lines))
    group.add_argument("--model", type=command_of, choices=CLASSES, default=default,
                       metavar="NAME", help="one of the names above"
                                            + (f" ({default})" if default else ""))
    group.add_argument("--estimator", type=command_of, choices=ESTIMATORS, metavar="NAME",
                       help=f"for segmented: the model that each segment gets ({FIRST})")
    group.add_argument("--by", metavar="FIELD|FILE",
                       help="for segmented: a field of the user features, or a file with a user "
                            "and a label on each line, or with only the labels, in the order of "
                            "the user ids")
    group.add_argument("--factors", type=int, metavar="K", help="length of the vectors")
    group.add_argument("--reg", type=float, metavar="X", help="penalty weight")
    group.add_argument("--bias", choices=("mean", "learned", "none"), help="for mf")
    group.add_argument("--epochs", type=int, metavar="N", help="passes over the ratings")
    group.add_argument("--seed", type=int, default=0, help="for all random draws (0)")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE",
                       help="any parameter of the class, such as hidden=200,100; can be given "
                            "more than once")
    _add_threads(group)


def _add_file_options(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("ratings files")
    for name, usual in (("user", "first"), ("item", "second"), ("rating", "third")):
        extra = '; "none": every line counts as 1' if name == "rating" else ""
        group.add_argument(f"--{name}-column", default=name, metavar="COLUMN",
                           help=f"name in the header, or number from 0 (the {usual}){extra}")
    group.add_argument("--time-column", metavar="COLUMN",
                       help="of the seconds at which ratings were given (no times)")
    group.add_argument("--separator", metavar="TEXT", help="between columns (detected)")
    group.add_argument("--duplicates", choices=("error", "last", "mean", "sum"),
                       default="error", help="what to do if a pair occurs again (error)")
    group.add_argument("--text-ids", action="store_true",
                       help="keep ids as they are written, also those of digits alone")
    group.add_argument("--header", action=BooleanOptionalAction, default=None,
                       help="whether the first line names the columns (found out)")
    group.add_argument("--encoding", default="utf-8", metavar="NAME", help="of the text (utf-8)")
    group.add_argument("--no-quotes", action="store_true", help="read quotes as characters")
    group.add_argument("--comment", metavar="TEXT", help="how lines begin that are skipped")
    group.add_argument("--skip-lines", type=int, default=0, metavar="N",
                       help="lines to skip at the top (0)")
    group.add_argument("--missing", metavar="WORDS", help="words, separated by commas, that stand "
                       "for a missing id and are refused (NA, NULL, ...)")
