"""The command `mfcore`: every command's answer, as text and as JSON, and every way to fail."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from argparse import _SubParsersAction
from pathlib import Path

import numpy as np
import pytest
import samples

import mfcore
from mfcore.cli import demo, described, main, models, output
from mfcore.cli.flags import in_flags
from mfcore.cli.parser import build_parser
from mfcore.data import synthetic
from mfcore.models.registry import MODELS, sentence

COMMANDS = ("demo", "fetch", "convert", "fit", "tune", "recommend", "similar", "evaluate",
            "compare", "compile", "info")


def kinds():
    (action,) = (each for each in build_parser()._actions
                 if isinstance(each, _SubParsersAction))
    return action.choices


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Ratings, two models of them and what goes with them; not to be written to."""
    folder = tmp_path_factory.mktemp("cli")
    data = synthetic.planted(n_users=60, n_items=40, n_factors=2, random_state=3)
    write_ratings(folder / "ratings.csv", data.ratings)
    titles = [f"{item},{title}" for item, title in enumerate(data.item_titles)]
    (folder / "titles.csv").write_text("\n".join(["id,title", *titles]) + "\n")
    (folder / "new.csv").write_text("zoe,1,5\nzoe,2,4\nyan,3,1\n")
    (folder / "segments.csv").write_text("user,kind\n" + "".join(
        f"{user},{'ab'[user % 2]}\n" for user in range(50)))
    (folder / "named.csv").write_text("ann,tea,5\nann,cup,4\nbob,tea,3\nbob,pot,2\neve,pot,5\n")
    for name, kind, options in (("mf", "MatrixFactorization", {"random_state": 0}),
                                ("bias", "BiasOnly", {})):
        model = getattr(mfcore, kind)(**options)
        if kind == "MatrixFactorization":
            model.set_params(n_factors=4, n_epochs=4)
        model.fit(mfcore.read_ratings(folder / "ratings.csv")).save(folder / f"{name}.mfcore")
    mfcore.MatrixFactorization(2, n_epochs=2, random_state=0).fit(
        mfcore.read_ratings(folder / "named.csv")).save(folder / "named.mfcore")
    return folder


@pytest.fixture
def run(folder, capsys, monkeypatch):
    """Run a command line in the folder; return (exit code, standard output, standard error)."""
    monkeypatch.chdir(folder)

    def call(line):
        code = main(shlex.split(line))
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def answer(run):
    """Run a command line with --json that has to go well, and return what it says."""
    def call(line):
        code, out, err = run(f"{line} --json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return call


def write_ratings(path, ratings):
    cells = ratings.by_user.tocoo()
    lines = [f"{u},{i},{r:g}" for u, i, r in zip(cells.row, cells.col, cells.data, strict=True)]
    path.write_text("\n".join(["user,item,rating", *lines]) + "\n")


# ------------------------------------------------------------------------------- help


def test_the_commands_are_those_of_the_help():
    assert tuple(kinds()) == COMMANDS


@pytest.mark.parametrize("arguments", ["--help", *(f"{name} --help" for name in COMMANDS)])
def test_help_shows_examples_and_goes_well(run, arguments):
    code, out, err = run(arguments)
    assert (code, err) == (0, "")
    assert "examples:\n  mfcore " in out


def examples():
    for parser in (build_parser(), *kinds().values()):
        text = parser.epilog.partition("\n")[2].replace("\n      ", " ")
        yield from (line.strip() for line in text.splitlines())


@pytest.mark.parametrize("line", list(examples()))
def test_the_examples_of_the_help_parse(line):
    name, *arguments = shlex.split(line)
    assert name == "mfcore"
    assert callable(build_parser().parse_args(arguments).command)


def test_every_option_is_explained():
    for name, parser in kinds().items():
        for action in parser._actions:
            assert action.help, (name, action.option_strings)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json_quiet_and_the_hidden_traceback(name):
    known = kinds()[name]._option_string_actions
    assert {"--json", "--quiet", "--traceback"} <= set(known)
    assert "--traceback" not in kinds()[name].format_help()


def test_the_version_is_shown(run):
    assert run("--version") == (0, f"mfcore {mfcore.__version__}\n", "")


# ------------------------------------------------------------------------------- demo

LADDER = ["Popularity", "BiasOnly", "minimal MF", "mean bias", "learned bias",
          "weighted unknown"]


@pytest.fixture(scope="module")
def small_demo(tmp_path_factory):
    """What `mfcore demo` says of small audiences, as (text, data)."""
    picture = str(tmp_path_factory.mktemp("demo") / "folding.png")
    data = synthetic.planted_audiences(n_users=160, n_items=80, n_factors=4, random_state=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "planted_audiences", lambda: data)
        arguments = build_parser().parse_args(["demo", "--data", "planted-audiences",
                                               "--picture", picture])
        found = arguments.command(arguments)
    return found.text, json.loads(json.dumps(output.plain(found.data)))


def test_the_demo_climbs_the_ladder_in_order(small_demo):
    _, data = small_demo
    assert [row["model"] for row in data["rows"]] == LADDER
    assert data["held_out"] == pytest.approx(0.2 * data["ratings"], rel=0.1)


def test_the_demo_measures_each_model_by_what_it_predicts(small_demo):
    _, data = small_demo
    popularity, *others = data["rows"]
    assert "rmse" not in popularity
    assert all(row["rmse"] > 0 for row in others)
    for row in data["rows"]:
        assert 0 <= row["ndcg@10"] <= 1
        assert 0 <= row["cross_group_rate@10"] <= 1
        assert row["seconds"] > 0


def test_vectors_predict_better_than_biases_and_weighting_the_unknown_ranks_best(small_demo):
    rows = {row["model"]: row for row in small_demo[1]["rows"]}
    assert rows["learned bias"]["rmse"] < rows["BiasOnly"]["rmse"]
    best = rows.pop("weighted unknown")
    assert best["ndcg@10"] > max(row["ndcg@10"] for row in rows.values())
    assert best["cross_group_rate@10"] < rows["Popularity"]["cross_group_rate@10"] / 4


def test_every_idea_pays_on_the_data_of_the_demo():
    arguments = build_parser().parse_args(["demo", "--quiet"])
    steps = demo.climb(mfcore.fetch(arguments.data), arguments).steps
    assert [step.name for step in steps] == LADDER
    errors = [step.figures["rmse"] for step in steps[1:5]]
    assert (np.diff(errors) < -0.005).all()
    assert errors[-1] < 0.97 * errors[0]
    ranked = [step.figures["ndcg@10"] for step in steps]
    assert max(ranked) == ranked[-1] > 1.1 * ranked[0]


def test_the_demo_names_the_models_that_predict_and_rank_best(small_demo):
    text, data = small_demo
    rated = data["rows"][1:]
    for line, row in (("To predict ratings", min(rated, key=lambda row: row["rmse"])),
                      ("To recommend", max(data["rows"], key=lambda row: row["ndcg@10"]))):
        assert f"{line}: {row['model']}, " in text


def test_the_table_of_the_demo_is_aligned_and_explained(small_demo):
    text, data = small_demo
    lines = text.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("model "))
    edges = [column.end() for column in re.finditer("-+", lines[start + 1])][:-2]
    for name, line in zip(LADDER, lines[start + 2:start + 8], strict=True):
        assert line.startswith(name)
        for edge in edges[1:]:                      # numbers end where their column does
            assert line[edge - 1] != " "
            assert line[edge:edge + 2].strip() == ""
    reading = lines[start + 9]
    for column in ("RMSE", "NDCG@10", "cross-audience"):
        assert column in lines[start]
        assert column in reading
    assert f"{data['rows'][-1]['ndcg@10']:.4f}" in lines[start + 7]


def test_the_demo_shows_what_a_weight_on_unknown_cells_does_to_folding(small_demo):
    text, data = small_demo
    rows = data["folding"]
    assert [row["weight"] for row in rows] == sorted(row["weight"] for row in rows)
    assert rows[0]["weight"] == 0
    n_cells, known = data["users"] * data["items"], data["ratings"] - data["held_out"]
    assert rows[-1]["weight"] == pytest.approx(known / (n_cells - known))      # balanced
    first, chosen = rows[0], next(row for row in rows if row["chosen"])
    assert chosen["validation"] == max(row["validation"] for row in rows)
    assert first["cross_group_rate@10"] > 0.3
    assert chosen["cross_group_rate@10"] < 0.05
    for name in ("ndcg@10", "ndcg@10 within audiences"):
        assert chosen[name] > first[name]
    assert chosen["rmse"] > first["rmse"]
    lines = text.splitlines()
    assert ["weight", *demo.COLUMNS] in [line.split() for line in lines]
    chosen_line = next(line for line in lines if line.endswith("chosen on validation"))
    assert f"{chosen['cross_group_rate@10']:.3f}" in chosen_line


def test_the_demo_draws_the_items_by_audience(small_demo):
    pytest.importorskip("matplotlib")
    text, data = small_demo
    assert f"Picture: {data['picture']}" in text
    assert Path(data["picture"]).read_bytes().startswith(b"\x89PNG")


def test_the_demo_draws_no_picture_where_none_is_wanted_or_nothing_can_draw(monkeypatch):
    data = synthetic.planted_audiences(n_users=40, n_items=40, n_factors=4, random_state=1)
    models = {"one": mfcore.MatrixFactorization(2, n_epochs=1).fit(data.ratings)}
    assert demo._drawn(models, data, data.item_groups, "none") is None
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert demo._drawn(models, data, data.item_groups, "picture.png") is None


def test_audiences_are_named_by_their_feature_or_by_number():
    data = synthetic.planted_audiences(n_users=40, n_items=40, n_factors=4)
    names = demo.audience_names(data, data.item_groups)
    assert all(title.startswith(name) for title, name in zip(data.item_titles, names, strict=True))
    plain = dataclasses.replace(data, item_features=None)
    assert demo.audience_names(plain, data.item_groups)[0] == f"audience {data.item_groups[0]}"
    shuffled = demo.audience_names(data, np.roll(data.item_groups, 1))
    assert shuffled[1] == f"audience {data.item_groups[0]}"


def test_a_picture_in_no_folder_is_refused_before_any_work(run):
    code, _, err = run("demo --data planted-audiences --picture nowhere/at/all.png")
    assert (code, "there is no folder" in err) == (1, True)


@pytest.mark.parametrize("line", [
    "demo --data planted-audiences --picture {}", "compare ratings.csv bias mf --plot {}"])
def test_a_picture_of_no_known_kind_is_refused_before_any_work(run, monkeypatch, tmp_path, line):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(mfcore.MatrixFactorization, "fit", None)
    code, _, err = run(line.format(tmp_path / "picture.xyz"))
    assert (code, "must name a picture that matplotlib writes (" in err) == (1, True)


def test_the_demo_recommends_titles_that_the_user_has_not_rated(small_demo):
    text, data = small_demo
    assert len(data["recommendations"]) == 3
    for found in data["recommendations"]:
        assert len(found["items"]) == 5
        assert found["rated"]
        ratings = [each["rating"] for each in found["rated"]]
        assert ratings == sorted(ratings, reverse=True)
        assert not {each["item"] for each in found["rated"]} & {
            each["item"] for each in found["items"]}
        assert all(each["title"] in text for each in [*found["rated"], *found["items"]])


def test_the_demo_is_a_function_of_its_seed(answer):
    line = "demo --data ratings.csv --titles titles.csv"
    first, again, other = answer(line), answer(line), answer(f"{line} --seed 1")
    for found in (first, again, other):
        del found["seconds"]
        for row in found["rows"]:
            del row["seconds"]
    assert first == again
    assert first != other
    assert "cross_group_rate@10" not in first["rows"][0]
    assert all(each["title"] for each in first["recommendations"][0]["items"])


def test_settings_are_chosen_without_the_test_part():
    """Shuffling the test ratings leaves every choice as it was."""
    data = synthetic.planted(n_users=60, n_items=40, n_factors=2, random_state=3)
    arguments = build_parser().parse_args(["demo"])
    plain = demo.climb(data, arguments)
    held = plain.test.by_user.copy()
    held.data = np.random.default_rng(0).permutation(held.data)
    mixed = (plain.train.by_user + held).tocsr()
    shuffled = demo.climb(mfcore.data.dataset.Dataset(mfcore.Ratings(mixed)), arguments)
    assert (shuffled.train.by_user != plain.train.by_user).nnz == 0
    assert [step.settings for step in shuffled.steps] == [step.settings for step in plain.steps]
    assert shuffled.steps[-2].figures["rmse"] != plain.steps[-2].figures["rmse"]


def test_settings_are_chosen_on_a_limited_number_of_ratings(monkeypatch):
    ratings = synthetic.planted(n_users=60, n_items=40, random_state=3).ratings
    assert demo._enough(ratings, 0) is ratings
    monkeypatch.setattr(demo, "ENOUGH", 200)
    some = demo._enough(ratings, 0)
    assert 200 <= some.nnz < 300
    assert some.shape[1] == ratings.shape[1]


def test_groups_are_audiences_only_if_no_rating_crosses():
    crossing = synthetic.planted(n_users=40, n_items=30)
    apart = synthetic.planted_audiences(n_users=40, n_items=40)
    assert demo.audiences(crossing) is None
    assert demo.audiences(apart) is not None
    assert demo.audiences(mfcore.data.dataset.Dataset(apart.ratings)) is None


# ------------------------------------------------------------------------------ fetch


def test_fetch_lists_what_is_known_and_where_it_is(answer, tmp_path, monkeypatch):
    (tmp_path / "ml-1m.zip").touch()
    monkeypatch.setenv("MFCORE_DATA", str(tmp_path))
    monkeypatch.setenv("MFCORE_CACHE", str(tmp_path / "none"))
    places = {row["name"]: row["place"] for row in answer("fetch")["datasets"]}
    assert tuple(places) == mfcore.data.datasets.NAMES
    assert places["planted"] == "generated"
    assert places["ml-1m"] == str(tmp_path / "ml-1m.zip")
    assert places["ml-25m"] == "to be downloaded"
    assert places["online-retail"] == "not here, and not for download"


def test_fetch_describes_a_data_set_and_writes_it_as_csv(answer, tmp_path):
    path = tmp_path / "planted.csv"
    found = answer(f"fetch planted --csv {path}")
    data = mfcore.fetch("planted")
    assert (found["users"], found["items"], found["ratings"]) == (600, 300, data.ratings.nnz)
    assert found["lowest"] == 1.0
    assert path.read_text().startswith("user,item,rating,timestamp\n")
    again = mfcore.read_ratings(path)
    assert (again.by_user != data.ratings.by_user).nnz == 0
    assert [each.name for each in tmp_path.iterdir()] == ["planted.csv"]


def test_fetch_prints_for_people(run):
    _, out, _ = run("fetch")
    assert "ml-100k" in out
    _, out, _ = run("fetch planted-audiences")
    assert "titles         yes" in out


# -------------------------------------------------------------------------------- fit


@pytest.mark.parametrize(("options", "kind", "expected"), [
    ("--factors 3 --reg 0.5 --bias none --epochs 2", "MatrixFactorization",
     {"n_factors": 3, "reg": 0.5, "bias": None, "n_epochs": 2, "random_state": 0}),
    ("--model mf --factors 2 --bias learned --set solver=cholesky --set tol=1e-3 --seed 7 "
     "--threads 1", "MatrixFactorization",
     {"bias": "learned", "solver": "cholesky", "tol": 1e-3, "random_state": 7, "n_threads": 1}),
    ("--factors 2 --set bias=mean --set unknown_weight=0.1 --set unknown_value=bias --set tol=None",
     "MatrixFactorization", {"unknown_weight": 0.1, "unknown_value": "bias", "tol": None}),
    ("--factors 2 --epochs 2 --set bias=none --set reg_scaling=none", "MatrixFactorization",
     {"bias": None, "reg_scaling": "none"}),
    ("--model implicit --factors 2 --epochs 2 --set reg_scaling='\"none\"'", "ImplicitMF",
     {"reg_scaling": "none"}),
    ("--model implicit --factors 2 --set alpha=10 --set confidence=log", "ImplicitMF",
     {"alpha": 10, "confidence": "log"}),
    ("--model bias --set reg_users=3", "BiasOnly", {"reg_users": 3}),
    ("--model popularity", "Popularity", {}),
])
def test_fit_saves_a_model_with_the_parameters_asked_for(answer, tmp_path, options, kind,
                                                         expected):
    path = tmp_path / "model.mfcore"
    found = answer(f"fit ratings.csv --out {path} {options}")
    model = mfcore.load(path)
    assert found["model"] == type(model).__name__ == kind
    assert expected.items() <= model.get_params().items()
    assert found["parameters"] == model.get_params()
    assert model.verbose == 0
    assert found["bytes"] == path.stat().st_size
    assert (found["users"], found["ratings"]) == (60, model.ratings_.nnz)
    assert found["epochs"] == model.n_epochs_


def test_fit_gives_the_bits_of_the_python_class(run, tmp_path):
    path = tmp_path / "m"
    code, out, err = run(f"fit ratings.csv --factors 3 --epochs 2 --out {path}")
    assert (code, err) == (0, "")
    assert f"saved to {path}" in out
    assert "60 users × 40 items" in out
    same = mfcore.MatrixFactorization(3, n_epochs=2, random_state=0).fit(
        mfcore.read_ratings("ratings.csv"))
    np.testing.assert_array_equal(mfcore.load(path).item_factors_, same.item_factors_)


def test_the_file_options_reach_the_reader(run, tmp_path):
    (tmp_path / "log.txt").write_text("when;what;who\n1;007;ann\n2;007;ann\n3;008;bob\n")
    code, _, err = run(f"fit {tmp_path}/log.txt --user-column who --item-column 1 "
                       f"--rating-column none --separator ';' --duplicates sum --text-ids "
                       f"--model popularity --out {tmp_path}/m")
    assert (code, err) == (0, "")
    ratings = mfcore.load(tmp_path / "m").ratings_
    assert ratings.item_ids.tolist() == ["007", "008"]
    assert ratings.by_user.toarray().tolist() == [[2, 0], [0, 1]]


def test_a_fit_that_fails_leaves_the_old_file(run, tmp_path):
    path = tmp_path / "old"
    path.write_text("old")
    code, _, _ = run(f"fit ratings.csv --out {path} --factors 0")
    assert code == 1
    assert path.read_text() == "old"


# ------------------------------------------------------------------------- every model

QUICK = {
    "mf": "--factors 2 --epochs 2", "implicit": "--factors 2 --epochs 2",
    "bpr": "--factors 2 --epochs 2",
    "softmax": "--factors 2 --epochs 2",
    "bayesian": "--factors 2 --epochs 4 --set burn_in=1 --set keep=2",
    "neural": "--factors 2 --epochs 1 --set hidden=4", "ease": "--reg 20",
    "autoencoder": "--epochs 2 --set hidden=6,4", "multdae": "--epochs 2 --set n_latent=3",
    "multvae": "--epochs 2 --set n_latent=3", "sparseease": "--reg 20", "itemknn": "", "rpbeta": "",
    "puresvd": "--factors 2", "graphfilter": "--factors 2", "bias": "", "popularity": "",
    "recvae": "--epochs 1 --set n_hidden=4 --set n_latent=3 --set n_layers=2",
    "segmented": "--by segments.csv --factors 2 --epochs 2 --set min_ratings=2"}
every_model = pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.command)


def entries(rows, kind):
    return [[each[kind] for each in row[f"{kind}s"]] for row in rows]


@every_model
def test_every_model_is_fitted_saved_and_asked(answer, run, tmp_path, entry):
    path = tmp_path / "model.mfcore"
    found = answer(f"fit ratings.csv --out {path} --model {entry.command} {QUICK[entry.command]}")
    model = mfcore.load(path)
    assert found["model"] == type(model).__name__ == entry.name
    assert getattr(model, "estimator", model).verbose == 0

    for options, asked in (("--user 5 3", {"users": [5, 3]}),
                           ("--ratings new.csv", {"ratings": mfcore.read_ratings("new.csv")})):
        rows = answer(f"recommend {path} {options} --k 4 --threads 1")["recommendations"]
        assert entries(rows, "item") == model.recommend(**asked, k=4)[0].tolist()

    for kind in ("item", "user"):
        line = f"similar {path} --{kind} 2 7 --k 3"
        if entry.answer(f"similar_{kind}s") == "no":
            says = sentence(type(model), f"similar_{kind}s")
            assert run(line) == (2, "", f"mfcore: error: {says}\n")
        else:
            ids, _ = getattr(model, f"similar_{kind}s")([2, 7], 3)
            assert entries(answer(line)["similar"], kind) == ids.tolist()

    measured = answer(f"evaluate {path} ratings.csv --include-seen")["metrics"]
    expected = mfcore.evaluate(model, mfcore.read_ratings("ratings.csv"), exclude_seen=False,
                               k=(5, 10, 20))
    assert measured == pytest.approx(expected)
    assert "ndcg@10" in measured
    if entry.predicts in ("ratings", "scores"):
        assert ("rmse" in measured) == (entry.predicts == "ratings")


@every_model
def test_every_model_is_cross_validated(answer, entry):
    line = f"evaluate ratings.csv --folds 2 --metrics ndcg@10 --model {entry.command}"
    found = answer(f"{line} {QUICK[entry.command]}")
    assert found["model"].startswith(f"{entry.name}(")
    assert 0 < found["metrics"]["ndcg@10"]["mean"] <= 1


@every_model
@pytest.mark.parametrize("command", ["fit", "evaluate"])
def test_every_model_is_named_by_the_help(run, command, entry):
    _, out, _ = run(f"{command} --help")
    (line,) = (line for line in out.splitlines() if line.split()[:1] == [entry.command])
    assert line.split(maxsplit=2) == [entry.command, entry.name, entry.summary]
    assert len(line) <= 80


@every_model
def test_every_model_goes_by_the_name_of_its_class_too(entry):
    for name in (entry.name, entry.command, entry.command.upper()):
        parsed = build_parser().parse_args(["fit", "x", "--out", "m", "--model", name])
        assert parsed.model == entry.command


def test_an_unknown_model_lists_the_known(run):
    for option in ("--model magic", "--model segmented --estimator magic"):
        code, _, err = run(f"fit ratings.csv --out m {option}")
        assert code == 2
        assert "'magic'" in err
        assert all(entry.command in err.rpartition("choose from")[2]
                   for entry in MODELS.values() if entry.command != "segmented")


@pytest.mark.parametrize(("kind", "name", "text", "value"), [
    ("MultDAE", "hidden", "200", (200,)), ("MultDAE", "hidden", "(200,)", (200,)),
    ("MultDAE", "hidden", "200,100", (200, 100)), ("MultDAE", "hidden", "[200, 100]", (200, 100)),
    ("MultDAE", "hidden", "()", ()), ("MultDAE", "hidden", "wide", "wide"),
    ("RatingAutoencoder", "mask_weights", "1,0.5", (1, 0.5)),
    ("NeuralMF", "lazy", "false", False), ("NeuralMF", "lazy", "Yes", True),
    ("NeuralMF", "lazy", "0", False), ("NeuralMF", "lazy", "True", True),
    ("NeuralMF", "lazy", "maybe", "maybe"), ("NeuralMF", "clip", "none", None),
    ("NeuralMF", "unknown_weight", "balanced", "balanced"),
    ("NeuralMF", "unknown_weight", "0.5", 0.5),
    ("MatrixFactorization", "n_epochs", "1e2", 100), ("MatrixFactorization", "n_epochs", "7", 7),
    ("MatrixFactorization", "n_epochs", "7.5", 7.5), ("MatrixFactorization", "reg", "2", 2),
    ("MatrixFactorization", "reg", "1e-3", 1e-3), ("MatrixFactorization", "reg", "inf", math.inf),
    ("MatrixFactorization", "reg", "much", "much"), ("MatrixFactorization", "bias", "none", None),
    ("MatrixFactorization", "bias", "mean", "mean"), ("MatrixFactorization", "tol", "None", None),
    ("MatrixFactorization", "reg_scaling", "none", "none"),
    ("MatrixFactorization", "reg_scaling", '"none"', "none"),
    ("MatrixFactorization", "bias_reg_scaling", "none", "none"),
    ("MatrixFactorization", "bias_reg_scaling", "None", None),
    ("MatrixFactorization", "dtype", "64", "64"), ("MatrixFactorization", "random_state", "7", 7),
    ("MatrixFactorization", "solver", "{[]: 1}", "{[]: 1}"),
])
def test_a_value_is_read_by_the_kind_of_its_parameter(kind, name, text, value):
    made = getattr(mfcore, kind)
    found = models.value_of(text, models.parameters_of(made)[name])
    assert (type(found), found) == (type(value), value)


# ---------------------------------------------------------------------------- segments


def labels(path):
    model = mfcore.load(path)
    return dict(zip(range(model.n_users_), [
        None if code < 0 else model.segment_labels_[code] for code in model.segment_of_user_],
        strict=True))


def test_segments_are_a_field_of_the_user_features(answer, run, tmp_path):
    data = synthetic.planted(n_users=40, n_items=30, random_state=2)
    line = "fit planted --model segmented --by group --estimator bias"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "planted", lambda: data)
        found = answer(f"{line} --out {tmp_path}/m --set estimator__reg_users=3")
        measured = answer(f"{line.replace('fit', 'evaluate', 1)} --folds 2 --metrics rmse")
    model = mfcore.load(tmp_path / "m")
    assert (model.by, model.estimator.reg_users) == ("group", 3)
    assert (found["parameters"]["by"], found["loss"]) == ("group", None)
    assert set(model.segments_) == {str(group) for group in data.user_groups}
    by = dict(enumerate(map(str, data.user_groups)))
    expected = mfcore.cross_validate(mfcore.Segmented(mfcore.BiasOnly(), by), data.ratings, 2,
                                     metrics=["rmse"])
    assert measured["metrics"]["rmse"]["folds"] == pytest.approx(expected["rmse"])
    assert "by='40 labels'" in measured["model"]


def test_segments_are_a_table_of_users_and_labels(answer, run, tmp_path):
    line = f"fit ratings.csv --out {tmp_path}/m --model segmented --estimator popularity"
    answer(f"{line} --by segments.csv")
    assert labels(tmp_path / "m") == {user: "ab"[user % 2] if user < 50 else None
                                      for user in range(60)}
    assert "by='50 labels'" in run(f"{line} --by segments.csv")[1]


def test_segments_are_read_in_the_encoding_that_is_named(answer, folder, tmp_path):
    lines = (folder / "segments.csv").read_text()
    (folder / "wide.csv").write_text(lines.replace("a", "é"), encoding="utf-16")
    (folder / "ratings16.csv").write_text((folder / "ratings.csv").read_text(), encoding="utf-16")
    answer(f"fit ratings16.csv --out {tmp_path}/m --model segmented --estimator popularity "
           f"--by wide.csv --encoding utf-16")
    assert labels(tmp_path / "m")[0] == "é"


def test_segments_are_a_label_on_each_line(answer, folder, tmp_path):
    (folder / "labels.txt").write_text("".join(f" {'xyz'[user % 3]}\n" for user in range(60)))
    answer(f"fit ratings.csv --out {tmp_path}/m --model segmented --estimator popularity "
           f"--by labels.txt")
    assert labels(tmp_path / "m") == {user: "xyz"[user % 3] for user in range(60)}


def test_segments_of_users_with_names_serve_those_who_come_later(answer, folder, tmp_path):
    (folder / "kinds.csv").write_text("ann;tea\nbob;pot\neve;\nzoe;tea\n")
    answer(f"fit named.csv --out {tmp_path}/m --model segmented --estimator popularity "
           f"--by kinds.csv")
    model = mfcore.load(tmp_path / "m")
    assert model.by == {"ann": "tea", "bob": "pot", "zoe": "tea"}
    assert model.segment_of_user_.tolist() == [0, 1, -1]
    (folder / "later.csv").write_text("zoe,tea,5\n")
    (found,) = answer(f"recommend {tmp_path}/m --ratings later.csv --k 1")["recommendations"]
    assert found["items"] == [{"item": "cup", "score": 1.0}]


def test_threads_reach_the_models_of_the_segments(folder, tmp_path, run, monkeypatch):
    run(f"fit ratings.csv --out {tmp_path}/m --model segmented --by segments.csv "
        f"--epochs 1")
    seen, load = [], mfcore.load

    def loaded(path):
        seen.append(load(path))
        return seen[-1]

    monkeypatch.setattr(mfcore, "load", loaded)
    run(f"recommend {tmp_path}/m --user 1 --threads 2")
    assert [model.n_threads for model in (seen[0], *seen[0].models_)] == [2] * 4


# ------------------------------------------------------------------------- recommend


def test_recommend_gives_what_the_model_gives(answer, folder):
    found = answer("recommend mf.mfcore --user 5 3 --k 4")["recommendations"]
    items, scores = mfcore.load(folder / "mf.mfcore").recommend([5, 3], k=4)
    assert [each["user"] for each in found] == [5, 3]
    assert [[item["item"] for item in each["items"]] for each in found] == items.tolist()
    np.testing.assert_allclose([[item["score"] for item in each["items"]] for each in found],
                               scores)


@pytest.mark.parametrize(("options", "expected"), [
    ("--cosine", {"similarity": "cosine"}),
    ("--include-seen", {"exclude_seen": False}),
    ("--items 1 2 3 --include-seen", {"items": [1, 2, 3], "exclude_seen": False}),
    ("--exclude 1 2 3", {"exclude_items": [1, 2, 3]}),
    ("--items-file few.txt --exclude 2", {"items": [1, 2, 30], "exclude_items": [2]}),
    ("--exclude-file few.txt --threads 1", {"exclude_items": [1, 2, 30]}),
])
def test_the_options_of_recommend_mean_what_they_mean_in_python(answer, folder, options,
                                                                expected):
    (folder / "few.txt").write_text("1\n2\n\n 30 \n")
    (found,) = answer(f"recommend mf.mfcore --user 4 --k 40 {options}")["recommendations"]
    items, scores = mfcore.load(folder / "mf.mfcore").recommend([4], k=40, **expected)
    assert [each["item"] for each in found["items"]] == items[0][np.isfinite(scores[0])].tolist()


def test_recommend_answers_all_users_and_users_out_of_a_file(answer, folder):
    everyone = answer("recommend mf.mfcore --all --k 2")["recommendations"]
    assert [each["user"] for each in everyone] == list(range(60))
    (folder / "users.txt").write_text("7\n9\n")
    some = answer("recommend mf.mfcore --users-file users.txt --k 2")["recommendations"]
    assert some == [everyone[7], everyone[9]]


def test_recommend_folds_new_users_in(answer, folder):
    found = answer("recommend mf.mfcore --ratings new.csv --k 3")["recommendations"]
    assert [each["user"] for each in found] == ["yan", "zoe"]
    assert not {1, 2} & {each["item"] for each in found[1]["items"]}
    items, _ = mfcore.load(folder / "mf.mfcore").recommend(
        k=3, ratings=mfcore.read_ratings(folder / "new.csv"))
    assert [each["item"] for each in found[1]["items"]] == items[1].tolist()


def test_ids_that_are_words_are_found(answer):
    (found,) = answer("recommend named.mfcore --user eve --k 9")["recommendations"]
    assert {each["item"] for each in found["items"]} == {"tea", "cup"}
    assert answer("similar named.mfcore --item pot --k 1")["similar"][0]["item"] == "pot"


def test_a_number_is_found_among_ids_of_any_kind(folder, answer):
    matrix = mfcore.load(folder / "named.mfcore").ratings_.by_user
    mixed = mfcore.Ratings(matrix, user_ids=["ann", 7, "8"], item_ids=["cup", "pot", "tea"])
    mfcore.Popularity().fit(mixed).save(folder / "mixed.mfcore")
    found = answer("recommend mixed.mfcore --user 7 8")["recommendations"]
    assert [each["user"] for each in found] == [7, "8"]


def test_ids_that_the_model_does_not_know_stop_a_request_unless_they_are_ignored(run, answer):
    assert run("recommend named.mfcore --user eve nobody")[0] == 1
    found = answer("recommend named.mfcore --user eve nobody --unknown ignore --exclude ash pot")
    eve, nobody = found["recommendations"]
    assert (eve["user"], nobody["user"]) == ("eve", "nobody")
    assert {each["item"] for each in nobody["items"]} == {"tea", "cup"}


def test_a_list_that_is_too_short_is_not_padded(answer, run):
    (found,) = answer("recommend mf.mfcore --user 4 --k 500")["recommendations"]
    seen = mfcore.load("mf.mfcore").ratings_.select_users([4]).nnz
    assert len(found["items"]) == 40 - seen
    assert "nothing left" in run("recommend named.mfcore --user ann --exclude pot --k 3")[1]


@pytest.mark.parametrize("source", ["titles.csv", "titles.dat", "u.item"])
def test_titles_are_shown_where_they_are_known(run, answer, folder, source):
    (folder / "titles.dat").write_text("3::Comedy, and so on::x\n30::Café\n", encoding="utf-8")
    (folder / "u.item").write_bytes("3|Comedy|x\n30|Café|x\n".encode("latin-1"))
    line = f"recommend mf.mfcore --user 4 --items 3 30 --include-seen --titles {source}"
    titles = {each["item"]: each["title"] for each in
              answer(line)["recommendations"][0]["items"]}
    assert titles[3].startswith(("Comedy", "Drama", "Western", "Mystery", "Romance", "Thriller"))
    assert source == "titles.csv" or titles[30] == "Café"
    assert f"{titles[3]} (3)" in run(line)[1]


def test_titles_and_ids_of_a_file_are_read_in_the_encoding_that_is_named(answer, folder):
    (folder / "utf16.csv").write_text("3,Café\n", encoding="utf-16")
    (folder / "utf16.txt").write_text("4\n", encoding="utf-16")
    (found,) = answer("recommend mf.mfcore --users-file utf16.txt --items 3 --include-seen --k 1 "
                      "--titles utf16.csv --encoding utf-16")["recommendations"]
    assert (found["user"], found["items"][0]["title"]) == (4, "Café")


def test_a_word_that_is_no_id_is_answered_where_unknown_ids_are_ignored(answer):
    found = answer("recommend mf.mfcore --user ann 4 --unknown ignore --k 1")["recommendations"]
    assert [each["user"] for each in found] == ["ann", 4]


def test_titles_of_neighbours_come_from_a_file_too(answer, folder):
    (folder / "wide.csv").write_text("3,Café\n", encoding="utf-16")
    (found,) = answer("similar mf.mfcore --item 3 --k 1 --titles wide.csv --encoding utf-16"
                      )["similar"]
    assert found["title"] == "Café"


def test_titles_come_from_a_data_set_by_name(answer):
    (found,) = answer("similar mf.mfcore --item 3 --k 1 --titles planted")["similar"]
    assert found["title"] == mfcore.fetch("planted").item_titles[3]
    assert answer("similar mf.mfcore --user 3 --k 1 --titles planted")["similar"][0].keys() \
        == {"user", "users"}


# ---------------------------------------------------------------------------- similar


@pytest.mark.parametrize(("options", "side", "similarity"), [
    ("--item 2 7", "item", "cosine"), ("--item 2 7 --dot", "item", "dot"),
    ("--user 2 7", "user", "cosine"),
])
def test_similar_gives_what_the_model_gives(answer, folder, options, side, similarity):
    found = answer(f"similar mf.mfcore {options} --k 3")["similar"]
    model = mfcore.load(folder / "mf.mfcore")
    ids, scores = getattr(model, f"similar_{side}s")([2, 7], k=3, similarity=similarity)
    assert [each[side] for each in found] == [2, 7]
    assert [[one[side] for one in each[f"{side}s"]] for each in found] == ids.tolist()
    np.testing.assert_allclose([[one["score"] for one in each[f"{side}s"]] for each in found],
                               scores)


# --------------------------------------------------------------------------- evaluate


def test_evaluate_measures_a_model_file(answer, folder, run):
    found = answer("evaluate mf.mfcore ratings.csv --metrics rmse ndcg recall@3 --k 2 4 "
                   "--include-seen --threshold 4")
    expected = mfcore.evaluate(
        mfcore.load(folder / "mf.mfcore"), mfcore.read_ratings(folder / "ratings.csv"),
        metrics=["rmse", "ndcg", "recall@3"], k=(2, 4), exclude_seen=False, threshold=4.0)
    assert found["metrics"] == pytest.approx(expected)
    _, out, _ = run("evaluate mf.mfcore ratings.csv --metrics rmse")
    assert f"{expected['rmse']:.4f}" in out


def test_evaluate_folds_users_in(answer, folder):
    (folder / "known.csv").write_text("yan,3,1\nzoe,1,5\nzoe,2,4\nwim,1,1\n")
    (folder / "test.csv").write_text("zoe,5,4\nyan,9,3\n")
    model = mfcore.load(folder / "mf.mfcore")
    found = answer("evaluate mf.mfcore test.csv --fold-in known.csv --metrics rmse mrr")
    expected = mfcore.evaluate(
        model, mfcore.read_ratings(folder / "test.csv"), metrics=["rmse", "mrr"],
        fold_in=mfcore.read_ratings(folder / "known.csv").select_users([1, 2]))
    assert found["metrics"] == pytest.approx(expected)


def test_evaluate_cross_validates_a_model(answer, folder, run):
    line = "evaluate ratings.csv --model bias --folds 3 --metrics rmse ndcg@5 --set reg_users=4"
    found = answer(line)["metrics"]
    expected = mfcore.cross_validate(mfcore.BiasOnly(reg_users=4),
                                     mfcore.read_ratings(folder / "ratings.csv"), 3,
                                     metrics=["rmse", "ndcg@5"])
    assert found["rmse"]["folds"] == pytest.approx(expected["rmse"])
    assert found["ndcg@5"]["mean"] == pytest.approx(expected["ndcg@5"].mean())
    assert found["ndcg@5"]["sd"] == pytest.approx(expected["ndcg@5"].std(ddof=1))
    assert f"{expected['rmse'].mean():.4f}" in run(line)[1]


def test_compare_fits_models_by_name_on_the_same_folds(answer, folder, run):
    line = ("compare ratings.csv bias popularity mf:n_factors=3:n_epochs=2 --folds 3 "
            "--metrics ndcg@5")
    found = answer(f"{line} --baseline bias --confidence 0.9")
    models = {"bias": mfcore.BiasOnly(), "popularity": mfcore.Popularity(),
              "mf:n_factors=3:n_epochs=2": mfcore.MatrixFactorization(3, n_epochs=2,
                                                                      random_state=0)}
    expected = mfcore.compare(models, mfcore.read_ratings(folder / "ratings.csv"), 3,
                              metrics=["ndcg@5"], baseline="bias", confidence=0.9)
    assert found["values"] == {name: pytest.approx(each) for name, each in
                               expected.values.items()}
    assert [each["verdict"] for each in found["differences"]] == [
        each.verdict for each in expected.differences]
    assert (found["folds"], found["fits"], found["confidence"]) == (3, 3, 0.9)
    assert "99 % interval" in run(f"{line} --baseline bias")[1]


def test_compare_measures_model_files_and_draws(answer, folder, tmp_path):
    pytest.importorskip("matplotlib")
    target = tmp_path / "difference.png"
    found = answer(f"compare ratings.csv mf.mfcore bias.mfcore --include-seen --refits 1 "
                   f"--method permutation --metrics rmse --plot {target}")
    (difference,) = found["differences"]
    assert (difference["first"], difference["second"]) == ("mf.mfcore", "bias.mfcore")
    assert (found["folds"], found["fits"]) == (1, 2)
    assert target.read_bytes().startswith(b"\x89PNG")


def test_the_folds_of_a_source_file_are_its_lines(answer, monkeypatch):
    data = synthetic.planted(n_users=30, n_items=20, random_state=2)
    monkeypatch.setattr(synthetic, "planted", lambda: data)
    found = answer("evaluate planted --model bias --file-folds --folds 3 --metrics rmse")
    folds = mfcore.data.split.file_folds(data.ratings, data.file_order, 3)
    expected = mfcore.cross_validate(mfcore.BiasOnly(), data.ratings, folds=folds,
                                     metrics="rmse")
    assert found["metrics"]["rmse"]["folds"] == pytest.approx(expected["rmse"])


# ------------------------------------------------------------------------------- info


def test_info_shows_what_a_model_file_holds(answer, run, folder):
    found = answer("info named.mfcore")
    model = mfcore.load(folder / "named.mfcore")
    assert found["model"] == "MatrixFactorization"
    assert found["parameters"]["n_factors"] == 2
    assert [found[name] for name in ("users", "items", "ratings", "epochs")] == [3, 3, 5, 2]
    assert found["bytes"] == (folder / "named.mfcore").stat().st_size
    assert found["mean"] == pytest.approx(model.mean_rating_)
    assert found["loss"] == pytest.approx(model.history_[-1]["loss"])
    _, out, _ = run("info named.mfcore")
    for line in (r"model +MatrixFactorization\(n_factors=2, n_epochs=2, ",
                 r"ratings +5, from 2 to 5", r"epochs +2, loss",
                 r"user ids +text, such as 'ann', 'bob', 'eve'"):
        assert re.search(line, out), out
    assert re.search(r"item ids +integers, such as 0, 1, 2", run("info mf.mfcore")[1])


@pytest.mark.parametrize("entry", MODELS.values(), ids=lambda entry: entry.name)
def test_info_describes_every_model_also_without_its_ratings(entry, answer, tmp_path):
    made = getattr(mfcore, entry.name)
    path = tmp_path / "m.mfcore"
    samples.small(made).fit(samples.counts()).save(path, seen=False)
    found = answer(f"info {path}")
    assert (found["model"], found["users"], found["ratings"]) == (entry.name, 11, None)
    assert found["user_ids"] == "row numbers"


@pytest.mark.parametrize(("line", "meant"), [
    ("fit x --out m --model implict", "did you mean 'implicit'?"),
    ("recomend x", "did you mean 'recommend'?"), ("fit x --out m --facters 3", "'--factors'?"),
    ("fit x --out m --duplicates men", "did you mean 'mean'?")])
def test_a_usage_error_suggests_the_nearest_word(run, line, meant):
    code, _, err = run(line)
    assert code == 2
    assert meant in err


def test_an_option_of_another_command_is_not_suggested_in_its_own_place(run):
    assert "did you mean" not in run("fetch planted --out x")[2]


@pytest.mark.parametrize(("text", "wanted"), [
    ("n_factors must be >= 1, got 0", "--factors must be >= 1, got 0"),
    ("r.csv, line 1: say header=True, user=0, item=1", None),
    ("read it (text_ids=True)", "read it (--text-ids)"),
    ('duplicates="last", "mean" or "sum" says', "--duplicates last, mean or sum says"),
    ("comment='#' skips such lines", "--comment # skips such lines"),
    ("or, if it is a name, say missing=()", "or, if it is a name, say --missing ''"),
    ("Ratings(matrix, weights=...)", "Ratings(matrix, weights=...)"),
    ("fit(bias=None)", "fit(bias=None)"), ("its users=3 of them", "its users=3 of them")])
def test_messages_speak_of_flags(text, wanted):
    arguments = build_parser().parse_args(["fit", "x", "--out", "m"])
    wanted = wanted or "r.csv, line 1: say --header, --user-column 0, --item-column 1"
    assert in_flags(text, arguments) == wanted
    bare = build_parser().parse_args(["info"])
    assert in_flags(text, bare) == text or text.startswith("duplicates")


def test_info_names_versions_threads_blas_and_folders(answer, run, monkeypatch, tmp_path):
    monkeypatch.setenv("MFCORE_CACHE", str(tmp_path))
    monkeypatch.setenv("MFCORE_DATA", "somewhere")
    found = answer("info")
    assert found["mfcore"] == mfcore.__version__
    assert found["packages"]["numpy"] == np.__version__
    assert found["threads"] >= 1
    assert found["blas"]
    assert {"library", "version", "kernel"} <= set(found["blas"][0])
    assert found["jit"]["cache"]
    assert found["folders"] == {"MFCORE_DATA": "somewhere", "cache": str(tmp_path)}
    _, out, _ = run("info")
    for name in ("python", "numpy", "threads", "blas", "jit cache", "data cache"):
        assert name in out


def test_info_says_what_is_missing(answer, monkeypatch):
    monkeypatch.setattr("mfcore.cli.info.PACKAGES", ("numpy", "no-such-package"))
    assert answer("info")["packages"] == {"numpy": np.__version__, "no-such-package": None}


def test_info_counts_the_kernels_that_can_be_used_by_folder(answer, run, monkeypatch):
    one, other = "/one/__pycache__", "/other/mfcore"
    monkeypatch.setattr("mfcore.compiled.ready", lambda: {one: {"a", "b"}, other: {"b", "c"}})
    jit = answer("info")["jit"]
    assert (jit["cache"], jit["kernels"], jit["folders"]) == (one, 3, {one: 2, other: 2})
    assert f"{other}, 2 compiled kernels ready" in run("info")[1]


def test_info_tests_the_machine_where_it_is_asked_to(answer, run):
    assert "check" not in answer("info")
    assert answer("info --check")["check"]["passed"] == ["rows", "score", "threads", "file"]
    assert "check" in run("info --check")[1]


def test_a_machine_that_computes_something_else_fails_its_check(run, monkeypatch):
    from mfcore import MatrixFactorization

    fit = MatrixFactorization.fit

    def wrong(self, *arguments, **options):
        model = fit(self, *arguments, **options)
        model.user_factors_ = model.user_factors_ * 1.0001
        return model

    monkeypatch.setattr(MatrixFactorization, "fit", wrong)
    code, _, complaint = run("info --check")
    assert code == 1
    assert "the self-test failed: rows" in complaint


# ----------------------------------------------------------------------------- errors


FAILURES = {
    "fit nothing.csv --out m": "there is no file nothing.csv",
    "fit ratings.csv --out nowhere/m": "there is no folder nowhere",
    "fit ratings.csv --out .": "it is a folder",
    "fit ratings.csv --out m --factors 0": "error: --factors must be >= 1, got 0",
    "fit ratings.csv --out m --reg nan": "reg must be finite",
    "fit ratings.csv --out m --threads 0": "error: --threads must be in",
    "fit ratings.csv --out m --set nonsense=1": "has no parameter 'nonsense'",
    "fit ratings.csv --out m --set nonsense": "--set must be NAME=VALUE",
    "fit ratings.csv --out m --set solver=magic": "solver must be one of",
    "fit ratings.csv --out m --model popularity --reg 1": "Popularity has no parameter 'reg'; it",
    "fit ratings.csv --out m --set n_factor=3": "'n_factor'; did you mean 'n_factors'? It has",
    "fit ratings.csv --out m --model ease --set regg=3": "'regg'; did you mean 'reg'? It has reg, ",
    "fit ratings.csv --out m --model bias --reg 3": "no parameter 'reg'; did you mean 'reg_users'?",
    "fit ratings.csv --out m --set n_epochs=many": "--epochs must be an integer, got 'many'",
    "fit ratings.csv --out m --model segmented --by colour": "user features (none here) or a file",
    "fit ratings.csv --out m --model segmented --by x --set by=y": "Segmented(Matrix",
    "fit planted --out m --model segmented --by colour": "features (group) or a file of labels",
    "fit ratings.csv --out m --model segmented --by empty.txt": "empty.txt must hold a user and a",
    "fit ratings.csv --out m --model segmented --by ragged.csv": "a label on every line",
    "fit ratings.csv --out m --model segmented --by named.csv": "named.csv has 'ann'",
    "fit ratings.csv --out m --model segmented --by two.csv": "puts user 1 into 'a' and 'b'",
    "fit named.csv --out m --model segmented --by titles.csv": "a label for none of the users",
    "fit ratings.csv --out m --model segmented --by three.txt": "one label per user, 60, got 3",
    "fit broken.csv --out m": "line 3",
    "fit twice.csv --out m": "; --duplicates last, mean or sum says how to merge",
    "fit ratings.csv --out m --user-column who": "no column 'who' for user; its columns: user",
    "fit ratings.csv --out m --item-column itm": "'itm' for item; did you mean 'item'? Its columns",
    "fit other.csv --out m": "no column 'user' for user, 'item' for item, 'rating' for rating; its "
                             "columns: order, client, sku, qty; name them: --user-column ..., "
                             "--item-column ..., --rating-column ...; --rating-column none "
                             "counts every line as 1",
    "fit seven.csv --out m": "write whole numbers, or say --text-ids to read such ids as text",
    "fit ratings.csv --out m --set regg=1 --set foo=2": "no parameter 'regg', 'foo'; did you mean "
                                                        "'reg'? It has n_factors",
    "tune ratings.csv --space regg=1:2": "has no parameter 'regg'; did you mean 'reg'? It has",
    "evaluate mf.mfcore ratings.csv --metrics ncdg": "got 'ncdg'; did you mean 'ndcg'?",
    "compare ratings.csv implict mf": "recvae, bias, popularity; did you mean 'implicit'?",
    "fetch ml-1k": "did you mean 'ml-100k'?", "fetch plantd": "did you mean 'planted'?",
    "fit movietweeting-100k --out m": "did you mean 'movietweetings-100k'?",
    "info nothing.mfcore": "there is no file nothing.mfcore",
    "fit low.csv --model implicit --out m": "counts must be >= 0",
    "recommend nothing.mfcore --user 1": "there is no file nothing.mfcore",
    "recommend ratings.csv --user 1": "no model file",
    "recommend cut.mfcore --user 1": "cannot read cut.mfcore",
    "recommend mf.mfcore --user 999": "999",
    "recommend mf.mfcore --user ann": "users not seen in training: 'ann'",
    "recommend mf.mfcore --user 1_0": "users not seen in training: '1_0'",
    "recommend mf.mfcore --user 01": "users not seen in training: '01'",
    "recommend mf.mfcore --user 1 --k 0": "k must be >= 1",
    "recommend mf.mfcore --user 1 --items 888": "888",
    "recommend mf.mfcore --users-file empty.txt": "empty.txt holds no ids",
    "recommend mf.mfcore --ratings unknown.csv": "777",
    "recommend mf.mfcore --user 1 --titles nothing": "there is no file nothing",
    "recommend mf.mfcore --user 1 --titles empty.txt": "an id and a title",
    "recommend mf.mfcore --user 1 --titles named.csv": "--titles must have ids of the fit",
    "similar mf.mfcore --item 1 --titles named.csv": "none of its ",
    "recommend mf.mfcore --user 1 --threads -1": "--threads must be in",
    "similar named.mfcore --item ink": "ink",
    "evaluate mf.mfcore nothing.csv": "there is no file nothing.csv",
    "evaluate mf.mfcore ratings.csv --metrics luck": "metrics must be one of",
    "evaluate mf.mfcore new.csv --fold-in named.csv": "not seen",
    "evaluate ratings.csv --model bias --folds 1": "--folds must be >= 2",
    "evaluate ratings.csv --model bias --file-folds": "--file-folds needs",
    "compare ratings.csv bias magic": "there is no model file magic, and no model of that name; ",
    "compare ratings.csv bias segmented": "known by name are mf, ",
    "compare ratings.csv bias mf:n_factor=3": "'n_factor'; did you mean 'n_factors'? It has",
    "compare ratings.csv bias mf:3": "what follows mf: must be NAME=VALUE, got '3'",
    "compare ratings.csv bias mf.mfcore": "models must all be fitted, or none of them, got bias",
    "compare ratings.csv bias": "models must be at least two",
    "compare ratings.csv bias mf --metrics gini": "gini is a number of all lists together",
    "compare ratings.csv bias mf --plot nowhere/x.png": "there is no folder nowhere",
    "compare ratings.csv bias mf --plot ''": "path must be a path, neither empty",
    "tune ratings.csv --model bias --out ''": "path must be a path, neither empty",
    "fetch planted --csv ''": "path must be a path, neither empty",
    "compare ratings.csv bias mf --baseline ease": "baseline must be one of 'bias', 'mf'",
    "fetch nothing": "there is no data set 'nothing'",
    "fetch --csv x": "--csv needs",
    "fetch planted --csv nowhere/x": "there is no folder nowhere",
    "demo --data nothing": "there is no file nothing",
    "demo --data ratings.csv --seed -1": "-1",
    "demo --data empty.txt": "empty.txt",
}


@pytest.fixture(scope="module")
def bad_files(folder):
    (folder / "empty.txt").write_text("\n")
    (folder / "broken.csv").write_text("1,2,3\n1,3,4\n1,x y\n")
    (folder / "twice.csv").write_text("1,2,3\n1,2,4\n")
    (folder / "other.csv").write_text("order,client,sku,qty\n1,2,3,4\n")
    (folder / "seven.csv").write_text("7.0,1,5\n8.0,2,4\n")
    (folder / "low.csv").write_text("1,2,3\n1,3,-4\n")
    (folder / "unknown.csv").write_text("1,777,3\n")
    (folder / "ragged.csv").write_text("1,a\n2\n")
    (folder / "two.csv").write_text("user,kind\n1,a\n2,a\n1,b\n")
    (folder / "three.txt").write_text("a\nb\na\n")
    (folder / "cut.mfcore").write_bytes((folder / "mf.mfcore").read_bytes()[:-999])


# One function writes all errors, for --json too: it is tried once per command.
WITH_JSON = {line.split()[0]: f"{line} --json" for line in FAILURES}.values()


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize("line", [*FAILURES, *WITH_JSON])
def test_an_expected_error_is_one_line_and_exit_code_1(run, folder, line):
    before = {path.name for path in folder.iterdir()}
    code, out, err = run(line)
    assert (code, out) == (1, "")
    assert err.startswith("mfcore: error: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1
    assert FAILURES[line.removesuffix(" --json")] in err
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("line", [
    "", "nonsense", "fit", "fit ratings.csv", "fit ratings.csv --out m --model magic",
    "fit ratings.csv --out m --reg much", "recommend mf.mfcore",
    "recommend mf.mfcore --user 1 --all", "similar mf.mfcore", "similar mf.mfcore --k two",
    "recommend mf.mfcore --user 1 --items 1 --items-file x",
    "evaluate mf.mfcore", "evaluate mf.mfcore ratings.csv --model mf", "demo extra",
    "fit ratings.csv --out m --by segments.csv", "fit ratings.csv --out m --estimator mf",
    "fit ratings.csv --out m --model segmented", "evaluate ratings.csv --model bias --by x",
    "compare ratings.csv bias bias", "compare ratings.csv",
    "compare ratings.csv bias mf --method guess",
    "fit ratings.csv --out m --model segmented --estimator segmented --by segments.csv"])
def test_a_command_line_that_makes_no_sense_is_exit_code_2(run, line):
    code, out, err = run(line)
    assert (code, out) == (2, "")
    assert err.startswith("usage: mfcore")
    assert "Traceback" not in err


@pytest.mark.parametrize("switch", ["--traceback", "MFCORE_TRACEBACK"])
def test_a_traceback_is_shown_on_request(run, monkeypatch, switch):
    if switch.startswith("MFCORE"):
        monkeypatch.setenv(switch, "1")
        switch = ""
    with pytest.raises(FileNotFoundError, match="no file nothing"):
        run(f"fit nothing.csv --out m {switch}")


def test_a_defect_is_not_dressed_up_as_a_mistake_of_the_user(run, monkeypatch):
    def broken(*_, **__):
        raise AttributeError("a defect")

    monkeypatch.setattr(mfcore.MatrixFactorization, "fit", broken)
    with pytest.raises(AttributeError, match="a defect"):
        run("fit ratings.csv --out m")


@pytest.mark.parametrize(("error", "text"), [
    (ValueError("k must be >= 1"), "k must be >= 1"),
    (KeyError("users not seen: 'ann'"), "users not seen: 'ann'"),
    (FileNotFoundError(2, "No such file", "x.csv"), "No such file: x.csv"),
    (FileNotFoundError("there is no file x"), "there is no file x"),
    (MemoryError(), "MemoryError"),
])
def test_an_error_is_described_by_its_message(error, text):
    assert described(error) == text


def test_a_message_of_many_lines_becomes_one(capsys):
    output.complain("error: one\n  two\tthree")
    assert capsys.readouterr() == ("", "mfcore: error: one two three\n")


def test_ctrl_c_is_exit_code_130_and_writes_nothing(run, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(mfcore.MatrixFactorization, "fit", interrupted)
    assert run(f"fit ratings.csv --out {tmp_path}/m") == (130, "", "mfcore: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_a_csv_that_dies_midway_leaves_nothing_behind(run, monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "planted.csv")

    monkeypatch.setattr("mfcore.cli.commands.progress", full)
    code, _, err = run(f"fetch planted --csv {tmp_path}/planted.csv")
    assert (code, err) == (1, "mfcore: error: No space left on device: planted.csv\n")
    assert list(tmp_path.iterdir()) == []


# ----------------------------------------------------------------------------- output


def test_json_holds_no_nan_and_no_numpy():
    value = {"a": np.float32(1.5), "b": [math.nan, math.inf], 3: np.array([1, 2]),
             "c": (np.bool_(True), None, "x"), "d": ("user", 1), "e": Path("x")}
    assert output.plain(value) == {"a": 1.5, "b": [None, None], "3": [1, 2],
                                   "c": [True, None, "x"], "d": ["user", 1], "e": "x"}


def test_a_table_aligns_names_to_the_left_and_numbers_to_the_right():
    text = output.table(["name", "n"], [["a", "100"], ["longer", "1"]])
    assert text.splitlines() == ["name      n", "------  ---", "a       100", "longer    1"]


class Terminal:
    """A standard error that someone looks at."""

    encoding = "utf-8"

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        """Nothing is held back."""


@pytest.mark.parametrize("line", [
    "fit ratings.csv --out {}/m --factors 2 --epochs 3",
    "evaluate ratings.csv --model bias --folds 3 --metrics rmse",
    "fetch planted --csv {}/x.csv",
])
def test_long_work_shows_a_bar_on_a_terminal_and_nowhere_else(run, monkeypatch, tmp_path, line):
    line = line.format(tmp_path)
    assert run(line)[2] == ""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    code, out, _ = run(line)
    assert code == 0
    assert "%|" in terminal.text
    assert "%|" not in out
    terminal.text = ""
    run(f"{line} --quiet")
    assert terminal.text == ""


# -------------------------------------------------------------------------- processes


def process(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "mfcore", *arguments], text=True, check=False,
                          capture_output=True, encoding="utf-8", **options)


def test_the_module_runs_as_a_program(folder):
    done = process("evaluate", "bias.mfcore", "ratings.csv", "--metrics", "rmse", "--json",
                   cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["metrics"]["rmse"] > 0


def test_a_program_that_fails_says_so_in_one_line_and_by_its_code(folder):
    done = process("recommend", "ratings.csv", "--user", "1", cwd=folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mfcore: error: cannot read ratings.csv")
    assert done.stderr.count("\n") == 1


def test_a_poor_encoding_loses_signs_and_not_the_answer(folder):
    done = process("evaluate", "bias.mfcore", "ratings.csv", "--metrics", "rmse", cwd=folder,
                   env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "60 users ? 40 items" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes are those of POSIX")
def test_a_reader_that_leaves_early_ends_the_program_quietly(folder):
    command = (f"{shlex.quote(sys.executable)} -m mfcore recommend mf.mfcore --all --k 40 "
               f"--include-seen --json; echo $? >&2")         # more than a pipe holds
    # (Unbuffered, Python itself takes a write that was cut short for a whole one.)
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(["sh", "-c", f"({command}) | head -n 1"], cwd=folder, text=True,
                          capture_output=True, check=True, env=env)
    assert done.stdout == "{\n"
    assert done.stderr.split() == ["1"]


@pytest.mark.skipif(os.name == "nt", reason="signals and pipes are those of POSIX")
def test_a_signal_during_a_fit_ends_it_in_one_line(folder, tmp_path):
    script = ("import signal, sys, mfcore.cli\n"
              "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
              "fit = mfcore.MatrixFactorization.fit\n"
              "def told(*arguments):\n"
              "    sys.stdout.write('fitting\\n'); sys.stdout.flush()\n"
              "    return fit(*arguments)\n"
              "mfcore.MatrixFactorization.fit = told\n"
              "sys.exit(mfcore.cli.main(sys.argv[1:]))\n")
    line = ["fit", "ratings.csv", "--out", str(tmp_path / "m"), "--epochs", "1000000"]
    with subprocess.Popen([sys.executable, "-c", script, *line], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline() == "fitting\n"
        time.sleep(0.5)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (130, "", "mfcore: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_a_program_reads_little():
    script = "import sys, mfcore.cli; mfcore.cli.main(['--version']); print(*sys.modules)"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          check=True, env=env)
    assert not {"numba", "scipy", "tqdm", "threadpoolctl"} & set(done.stdout.split())


# ----------------------------------------------------------------------------------- tune


def test_tune_saves_the_model_that_it_found(tmp_path, capsys):
    out = tmp_path / "found.mfcore"
    assert main(["tune", "planted", "--factors", "4", "--epochs", "3", "--budget", "3", "--space",
                 "reg=0.1:10", "bias=mean,learned", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "rmse"
    assert found["cost"] <= 3
    assert mfcore.load(out).reg == found["parameters"]["reg"]


@pytest.mark.parametrize("word", ["reg", "reg=", "=1:2", "reg=a:b", "1=2:3"])
def test_a_space_of_another_form_is_refused_with_the_form(word, capsys):
    assert main(["tune", "planted", "--space", word]) != 0
    assert "NAME=LOW:HIGH" in capsys.readouterr().err
