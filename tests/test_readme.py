"""The README and the pages behind it, run: their Python blocks print what they say.

The commands of the README parse, the cases of docs/choosing.md fit, and figures in prose are those
of the result files.

    MFCORE_UPDATE=1 pytest tests/test_readme.py

writes what the blocks print today into the README.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import sqlite3
from pathlib import Path
from typing import NamedTuple

import pytest
from test_cli import COMMANDS

import mfcore
from mfcore.cli.parser import build_parser

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
# Pages whose blocks state what they print; each block stands alone.
PAGES = [README, *(DOCS / f"{name}.md" for name in ("sklearn", "data", "results/new_users"))]
# Where figures stand.
WRITTEN = [README, DOCS / "choosing.md", *sorted((DOCS / "results").glob("*.md"))]
BLOCK = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")
# Bits differ between machines, and with them the last digits.
TOLERANCE = 0.005


class Block(NamedTuple):
    """A Python block and what its page says that it prints."""

    code: str
    output: str
    page: Path = README


def read(page=README):
    return page.read_text("utf-8")


def written():
    """The text of all pages of figures."""
    return "\n".join(map(read, WRITTEN))


def blocks(page=README):
    return [Block(*match.groups(""), page) for match in BLOCK.finditer(read(page))]


def last_line(block):
    return block.code.splitlines()[-1].strip()[:40]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The files that the README's blocks read."""
    (tmp_path / "ratings.csv").write_text("user,item,rating\nann,10,5\nann,20,3.5\nbob,10,4\n")
    (tmp_path / "clicks.csv").write_text("7,1\n7,1\n8,2\n")
    with gzip.open(tmp_path / "plays.tsv.gz", "wt") as stream:
        stream.write("listener\tartist\tplays\nann\tBach\t12\nbob\tBach\t3\nbob\tRavel\t1\n")
    sales = [(1, "tea", 2), (1, "tea", 3), (2, "tea", 1), (2, "cup", 4)]
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as database, database:
        database.execute("CREATE TABLE sales (customer INTEGER, product TEXT, quantity INTEGER)")
        database.executemany("INSERT INTO sales VALUES (?, ?, ?)", sales)
    lines = [",".join(map(str, line)) for line in [("customer", "product", "quantity"), *sales]]
    (tmp_path / "sales.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.chdir(tmp_path)


def printed(code):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, str(README), "exec"), {"__name__": "readme"})
    return out.getvalue()


def skip_without_needs(code, request):
    """Skip where a library of the test extra, or ML-100K, is not at hand."""
    for name in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        pytest.importorskip(name)
    if '"ml-100k"' in code:
        request.getfixturevalue("ml100k")


def same(stated, found):
    """Whether two texts agree, numbers with a fraction up to the tolerance."""
    stated_numbers, found_numbers = (list(map(float, NUMBER.findall(text)))
                                     for text in (stated, found))
    return NUMBER.sub("#", stated) == NUMBER.sub("#", found) and all(
        abs(a - b) <= TOLERANCE for a, b in zip(stated_numbers, found_numbers, strict=True))


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks(page)],
                         ids=last_line)
@pytest.mark.usefixtures("folder")
def test_a_python_block_prints_what_its_page_says(block, request):
    skip_without_needs(block.code, request)
    found = printed(block.code)
    if os.environ.get("MFCORE_UPDATE"):
        head, _, tail = read(block.page).partition(block.code + "```\n")
        tail = tail.replace(f"```text\n{block.output}```", f"```text\n{found}```", 1)
        block.page.write_text(f"{head}{block.code}```\n{tail}", "utf-8")
        return
    assert same(block.output, found), found


def test_a_changed_output_is_seen():
    assert same("rmse 0.901 [1, 2]\n", "rmse 0.9034 [1, 2]\n")
    assert not same("rmse 0.901\n", "rmse 0.911\n")
    assert not same("Fargo 0.9\n", "Contact 0.9\n")
    assert not same("[1, 2]\n", "[1, 3]\n")


def test_the_examples_are_short_and_every_block_states_its_output():
    assert len(blocks()) == 3
    assert all(block.output for page in PAGES for block in blocks(page))
    for block in blocks():
        assert len([line for line in block.code.splitlines() if line.strip()]) <= 10


def test_the_blocks_of_the_page_on_serving_run_one_after_the_other(tmp_path, monkeypatch):
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "serving"}
    with contextlib.redirect_stdout(io.StringIO()):
        for block in blocks(DOCS / "serving.md"):
            exec(compile(block.code, "docs/serving.md", "exec"), names)


def test_the_blocks_of_the_page_on_tuning_run(planted, capfd):
    names = {"ratings": planted.ratings, "plays": planted.ratings}
    for block in blocks(DOCS / "tuning.md"):
        code = block.code.replace('["ann"]', "[0]").replace("64", "8")
        exec(compile(code, "docs/tuning.md", "exec"), names)
    assert names["found"].model.n_factors >= 8


def commands(page=README):
    """The lines of a page's blocks that call mfcore."""
    fenced = re.findall(r"^(mfcore .*)$", read(page), re.MULTILINE)
    indented = re.findall(r"^    (pip .*|mfcore .*)$", read(page), re.MULTILINE)
    return fenced + [part.strip() for line in indented for part in line.split("&&")
                     if part.strip().startswith("mfcore")]


@pytest.mark.parametrize("line", [line for page in [README, *sorted(DOCS.glob("*.md"))]
                                  for line in commands(page)])
def test_a_command_of_a_page_parses(line):
    line = re.sub(r" *#.*", "", line)
    name, *arguments = shlex.split(line)
    assert name == "mfcore"
    assert callable(build_parser().parse_args(arguments).command)


def test_every_command_is_shown_or_named():
    shown = {shlex.split(line)[1] for line in commands()}
    named = set(re.findall(r"`mfcore (\w+)", read() + read(DOCS / "data.md")))
    assert shown | named == set(COMMANDS)


def calls_of_the_table():
    return re.findall(r"`((?:MatrixFactorization|ImplicitMF)[^`]*\(.*?\))` \|$", cases(),
                      re.MULTILINE)


def cases():
    return read(DOCS / "choosing.md").partition("## Which call minimises what")[2]


def test_the_table_names_every_case():
    assert len(calls_of_the_table()) == 11


@pytest.mark.parametrize("call", calls_of_the_table())
def test_a_call_of_the_table_fits_what_its_row_says(call, planted):
    (row,) = (line for line in cases().splitlines() if f"`{call}` |" in line)
    model = eval(call, vars(mfcore) | {name: getattr(mfcore, name) for name in mfcore.__all__})
    ratings = planted.ratings
    if getattr(model, "loss", "") == "logistic":
        ratings = mfcore.Ratings.from_arrays(ratings.users_of_cells, ratings.by_user.indices,
                                             (ratings.by_user.data > 3).astype(float))
    model.set_params(n_factors=2, n_epochs=1, random_state=0).fit(ratings)
    _, _, weight, unknown_weight, value, bias, _, _ = (cell.strip() for cell in row.split("|"))
    says = {"none": None, "fixed": "mean", "learned": "learned"}
    assert bias == "any" or getattr(model, "bias", None) == says[bias]
    expected = {"0": 0.0, "1": 1.0, "α": 0.1, "α₀": 0.1}
    assert model.unknown_weight_ == expected.get(unknown_weight, model.unknown_weight_)
    assert (model.unknown_weight_ > 0) == (unknown_weight != "0")
    assert (getattr(model, "unknown_value", 0.0) == "bias") == value.startswith("μ")
    assert ("count" in weight) == (isinstance(model, mfcore.ImplicitMF)
                                   and not model.whole_matrix)


@pytest.mark.parametrize("page", [README, *sorted(DOCS.glob("*.md")), *sorted(
    (DOCS / "results").glob("*.md"))], ids=lambda page: page.stem)
def test_links_lead_to_files(page, monkeypatch):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", read(page)):
        if target.startswith("reference/"):                  # written when the guide is built
            monkeypatch.syspath_prepend(DOCS / "_lib")
            from reference import pages

            assert Path(target).stem in pages(), target
        elif "://" not in target:
            assert (page.parent / target).is_file(), target


def test_every_dependency_is_justified():
    from importlib.metadata import requires

    section = read().partition("## Dependencies")[2]
    needed = [re.match(r"[\w-]+", each)[0] for each in requires("mfcore") if "extra" not in each]
    assert [name for name in needed if f"* `{name}`: " not in section] == []


def test_no_public_name_in_the_readme_is_invented():
    for name in re.findall(r"`(\w+)`", written()):
        if name[0].isupper() and name.isidentifier() and name not in ("DATA", "FILE"):
            assert hasattr(mfcore, name), name


def test_the_table_of_figures_is_the_one_in_the_result_file():
    results = json.loads((README.parent / "benchmarks/results/ml100k_rmse.json").read_text())
    text = written()
    for row in results["rows"]:
        cells = [row["name"], *(f"{value:.4f}" for value in [*row["folds"], row["mean"]])]
        assert f"| {' | '.join(cells)} |" in text


def test_the_table_of_sampling_is_the_one_in_the_result_file():
    results = json.loads((README.parent / "benchmarks/results/ml100k_bayesian.json").read_text())
    for row in results["rows"]:
        cells = [row["name"], *(f"{value:.4f}" for value in [*row["folds"], row["mean"]])]
        assert f"| {' | '.join(cells)} |" in written()
    covered = [row["covered by the 80 % interval"] for row in results["rows"] if len(row) > 3]
    assert f"{min(covered):.1%} to {max(covered):.1%}".replace("%", " %") in written()


def test_the_tables_of_cold_start_are_those_in_the_result_file():
    results = json.loads((README.parent / "benchmarks/results/cold_start.json").read_text())
    text = written()
    for row in results["rows"]:
        cells = [row["name"], *(f"{value:.3f}" for value in row["mean"])]
        shown = f"| {' | '.join(cells)} |" in text
        assert shown or (row["metric"] == "ndcg@10" and row["name"].startswith(("item", "fact")))


def test_the_table_of_folding_is_the_one_in_the_result_file():
    results = json.loads((README.parent / "benchmarks/results/folding.json").read_text())
    names = {"none": "no weight", "chosen": "weight chosen"}
    columns = ("cross_group_rate@10", "spurious_rate@10", "ndcg@10", "ndcg@10 within audiences")
    for row in results["rows"]:
        cells = [row["data"], names[row["weight"]], *(f"{row[name]:.3f}" for name in columns)]
        assert f"| {' | '.join(cells)} |" in written()
    agreement = [value for row in results["rows"] for value in
                 row.get("rank correlation with cross_group_rate", {}).get("spurious_rate@10", [])]
    assert (round(min(agreement), 2), max(agreement)) == (0.98, 1)


def test_the_figures_of_neural_factorization_are_those_in_the_result_file():
    results = json.loads((README.parent / "benchmarks/results/ml100k_neural.json").read_text())
    text = " ".join(written().split())
    joint, staged = results["joint"], results["two-stage"]
    assert f"{results['defaults']['mean']:.4f} with its defaults" in text
    assert f"{joint['mean']:.4f} at once and {staged['mean']:.4f} from `MatrixFactorization`, " \
           f"which has {staged['mean of the factorizations']:.4f} alone" in text
    assert all(fold["rmse"] < fold["factorization"] for fold in staged["folds"])
    assert joint["mean"] > results["defaults"]["mean"]


def test_the_loss_curves_of_neural_factorization_are_those_in_the_result_file():
    curves, text = result("neural_curves"), " ".join(written().split())
    ours, nudged = "single, mfcore and torch", "single, torch and torch, start one rounding away"
    lazy, dense = (curves[kind]["apart"] for kind in ("lazy", "dense"))
    for name, found in ("double, mfcore and torch, one epsilon", lazy), \
                       ("double, mfcore and torch", dense):
        assert len(found[name]) == 7
        assert max(found[name]) < 1e-15
    assert f"{dense[ours][-1]:.4f} (dense) and {lazy[ours][-1]:.4f} (lazy) apart" in text
    assert f"PyTorch ends {lazy[nudged][-1]:.4f} from itself, both times" in text
    assert f"{dense[nudged][-1]:.4f}" == f"{lazy[nudged][-1]:.4f}"


def result(name):
    return json.loads((README.parent / "benchmarks/results" / f"{name}.json").read_text())


def test_the_table_of_autoencoders_of_ratings_is_the_one_in_the_result_file():
    for name, arm in result("autoencoder_ratings")["arms"].items():
        folds = [arm["folds"][f"u{fold}"]["test"] for fold in range(1, 6)]
        assert f"| {name} | {' | '.join(f'{x:.4f}' for x in [*folds, arm['mean']])} |" in written()


def test_the_memory_and_the_published_settings_of_autoencoders_are_those_in_the_result_files():
    text = " ".join(written().split())
    memory = result("autoencoder_memory")["models"]
    assert ", ".join(f"{name} {row['gigabytes']:.2f}" for name, row in memory.items()) in text
    assert max(row["gigabytes"] for row in memory.values()) < 4
    for name, row in result("published_autoencoders")["rows"].items():
        assert f"`.{name}()` {row['rmse']:.4f}" in text


def test_the_table_of_held_out_users_is_the_one_in_the_result_file():
    for data, part in result("strong_generalisation")["data"].items():
        (seeds,) = {len(row["seeds"]) for row in part["models"].values()}
        assert f"{data}: {seeds} seed{'s' * (seeds > 1)}" in written()
        for name, row in part["models"].items():
            cells = [f"{row[metric]['mean']:.3f}" + (f" ± {row[metric]['sd']:.3f}" if seeds > 1
                                                     else "")
                     for metric in ("recall_capped@20", "recall_capped@50", "ndcg@100")]
            assert f"| {data} | {name} | {row['settings']} | {' | '.join(cells)} |" in written()


def test_the_tables_of_what_masks_and_refeeding_do_are_those_in_the_result_file():
    found = result("autoencoder_ablations")
    for row in found["masking"]:
        share, _, beta = row["arm"]
        rmse, diagonal = (sum(row[name]) / len(row[name])
                          for name in ("held_out_rmse", "jacobian_diagonal"))
        assert f"| {share:g} | {beta:g} | {rmse:.4f} | {diagonal:.4f} |" in written()
    for row in found["refeeding"]:
        refeed, rate, hidden = row["arm"]
        rmse, gap, rank = (sum(row[name]) / len(row[name])
                           for name in ("held_out_rmse", "fixed_point_gap", "code_rank"))
        assert f"| {refeed} | {rate:g} | {len(hidden)} | {rmse:.4f} | {gap:.3f} | {rank:.1f} |" \
            in written()
