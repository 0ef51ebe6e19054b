"""Answers of any length are written as they are made, and no id acts upon a terminal."""

from __future__ import annotations

import io
import json
import warnings

import numpy as np
import pytest
import samples

import mfcore
from mfcore.cli import commands, lists, main, output
from mfcore.cli.output import Answer, Listing, shown

ODD = "evil\x1b[2J\n   1    9.9999  fake"
NASTY = {
    "clears the screen": "a\x1b[2Jb", "forges a line": "a\n   1    9.9999  b", "rings": "a\x07b",
    "returns": "a\rb", "moves back": "a\x08\x08b", "eight bits": "a\x9b2Jb", "deletes": "a\x7fb",
    "next line": "a\x85b", "line separator": "a\u2028b", "paragraph": "a\u2029b",
    "turns": "a\u202eb", "isolates": "a\u2066b", "zero": "a\x00b", "feeds": "a\x0cb", "odd": ODD}


ACTED_UPON = "\x1b\x07\r\x08\x9b\x7f\x85\u2028\u2029\u202e\u2066\x00\x0c"


def is_harmless(text):
    return not any(sign in text for sign in ACTED_UPON)


@pytest.fixture
def run(capsys):
    def call(*words):
        code = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return code, out, err
    return call


@pytest.fixture
def model(tmp_path):
    ratings = samples.named(samples.counts(20, 7))
    mfcore.MatrixFactorization(3, n_epochs=2, random_state=0).fit(ratings).save(tmp_path / "m")
    return tmp_path / "m"


# ---------------------------------------------------------------------------- streams

def entries(n):
    return [({"user": f"u{row}", "items": list(range(row))}, f"user u{row}") for row in range(n)]


@pytest.mark.parametrize("n", [0, 1, 5])
def test_a_listing_reads_as_if_it_were_written_at_once(n, capsys):
    output.write(Listing("lists", iter(entries(n))), as_json=True)
    data = {"lists": [data for data, _ in entries(n)]}
    assert capsys.readouterr().out == json.dumps(data, indent=2) + "\n"
    output.write(Listing("lists", iter(entries(n))), as_json=False)
    assert capsys.readouterr().out == "\n\n".join(text for _, text in entries(n)) + "\n"


@pytest.mark.parametrize("as_json", [True, False])
def test_an_entry_is_written_before_the_next_is_made(as_json, monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr("sys.stdout", written)

    def made():
        for number, entry in enumerate(entries(4)):
            assert number == 0 or f"u{number - 1}" in written.getvalue()
            assert f"u{number}" not in written.getvalue()
            yield entry

    output.write(Listing("lists", made()), as_json)


@pytest.mark.parametrize("as_json", [True, False])
def test_an_error_in_the_first_entry_comes_before_any_output(as_json, capsys):
    def made():
        raise ValueError("no")
        yield

    with pytest.raises(ValueError, match="no"):
        output.write(Listing("lists", made()), as_json)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", [
    ("recommend", "--all"), ("recommend", "--all", "--cosine", "--include-seen", "--k", 99),
    ("recommend", "--user", *(f"u{row}" for row in (5, 1, 7, 1, 19)), "--exclude", "i1"),
    ("similar", "--item", *(f"i{row}" for row in range(7)), "--k", 3),
    ("similar", "--user", *(f"u{row}" for row in range(20)), "--dot")])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_part_at_a_time_gives_the_same_answer(run, model, words, form, monkeypatch):
    code, whole, _ = run(words[0], model, *words[1:], *form)
    monkeypatch.setattr(lists, "ROWS", 3)
    assert run(words[0], model, *words[1:], *form)[1] == whole
    assert code == 0


def test_new_users_are_answered_a_part_at_a_time_too(run, model, tmp_path, monkeypatch):
    new = tmp_path / "new.csv"
    new.write_text("".join(f"n{row},i{(row * 3) % 7},{row % 5 + 1}\n" for row in range(10)))
    whole = run("recommend", model, "--ratings", new, "--json")
    monkeypatch.setattr(lists, "ROWS", 4)
    assert run("recommend", model, "--ratings", new, "--json") == whole
    assert [each["user"] for each in json.loads(whole[1])["recommendations"]] == [
        f"n{row}" for row in range(10)]


@pytest.mark.parametrize("k", [1, 7, 8, 4_000_000, 2**40])
def test_lists_end_at_the_catalogue(run, model, k, monkeypatch):
    asked = []
    best = mfcore.MatrixFactorization.recommend

    def seen(self, *args, k, **kwargs):
        asked.append(k)
        return best(self, *args, k=k, **kwargs)

    monkeypatch.setattr(mfcore.MatrixFactorization, "recommend", seen)
    code, out, _ = run("recommend", model, "--user", "u1", "--k", k, "--json", "--include-seen")
    assert code == 0
    assert asked == [min(k, 7)]
    assert len(json.loads(out)["recommendations"][0]["items"]) == min(k, 7)
    code, out, _ = run("similar", model, "--user", "u1", "--k", k, "--json")
    assert len(json.loads(out)["similar"][0]["users"]) == min(k, 19)


def test_a_long_list_asks_for_few_owners_at_a_time():
    asked = []

    def best(start, stop, k):
        asked.append((stop - start) * k)
        return np.zeros((stop - start, k), int), np.full((stop - start, k), -np.inf)

    kind = lists.Kind("t", "user", "item", {})
    for k, n_entries in ((10, 10**6), (10**5, 10**6), (10**6, 10**4), (3, 2)):
        list(lists.listing(kind, np.arange(30), k, n_entries, best).entries)
    assert max(asked) <= lists.NUMBERS


@pytest.mark.parametrize("words", [
    ("--users-file", "users.txt"), ("--ratings", "new.csv"), ("--all", "--items", "i1", "i99"),
    ("--all", "--k", 0)])
def test_an_unknown_id_far_down_is_told_before_any_output(run, model, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lists, "ROWS", 2)
    (tmp_path / "users.txt").write_text("".join(f"u{row}\n" for row in range(20)) + "stranger\n")
    (tmp_path / "new.csv").write_text("".join(f"n{row},i1,3\n" for row in range(9)) + "z,i99,3\n")
    code, out, err = run("recommend", model, *words)
    assert (code, out) == (1, "")
    assert "not seen in training" in err or "k must be" in err


# ------------------------------------------------------------------------- what is shown

@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_signs_that_a_terminal_acts_upon_are_escapes(text):
    assert is_harmless(shown(text))
    assert "\n" not in shown(text)
    assert shown(text).startswith(text[:1])
    assert shown(text) == shown(shown(text))


@pytest.mark.parametrize("text", [
    "plain", "žluťoučký kůň", "日本語", "a b", "می‌خواهم", "👩‍🚀", "é", "", "5"])
def test_other_signs_are_shown_as_they_are(text):
    assert shown(text) == text
    assert shown(5) == "5"


@pytest.fixture
def nasty(tmp_path):
    """A model whose ids do harm, titles that do, and a file of ratings."""
    items = [*NASTY.values(), "x", "y"]
    users = [f"u{text}" for text in items]
    triples = [(user, item, float(number % 5 + 1)) for number, user in enumerate(users)
               for item in items[number % 3::3]]
    ratings = mfcore.Ratings.from_arrays(*zip(*triples, strict=True))
    mfcore.MatrixFactorization(2, n_epochs=1, random_state=0).fit(ratings).save(tmp_path / "m")
    (tmp_path / "titles.csv").write_text(f"x,evil\x1b[2J title\ny,{NASTY['turns']}\n", "utf-8")
    return tmp_path, users, items


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_id_and_no_title_acts_upon_a_terminal(run, nasty, form):
    folder, users, items = nasty
    for words in (("recommend", "--all", "--k", 20), ("recommend", "--user", users[0]),
                  ("recommend", "--all", "--include-seen", "--titles", folder / "titles.csv"),
                  ("similar", "--item", *items), ("similar", "--user", *users)):
        code, out, err = run(words[0], folder / "m", *words[1:], *form)
        assert code == 0
        assert is_harmless(out)
        assert not form or json.loads(out)
        lines = [line for line in out.splitlines() if line.startswith("   1 ")]
        assert form or len(lines) <= out.count("user ") + out.count("item ")


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_complaints_quote_ids_harmlessly_and_on_one_line(run, nasty, text):
    folder = nasty[0]
    for words in (("recommend", folder / "m", "--user", f"stranger{text}"),
                  ("recommend", folder / "m", "--all", "--items", f"stranger{text}"),
                  ("similar", folder / "m", "--item", f"stranger{text}"),
                  ("fit", f"no such file{text}", "--out", folder / "o"),
                  ("fit", "planted", "--out", folder / "o", "--set", f"colour{text}=1"),
                  ("recommend", folder / f"none{text}", "--all"), ("fetch", f"none{text}"),
                  ("fit", "planted", "--out", folder / "o", "--model", f"mf{text}"),
                  ("evaluate", folder / "m", folder / f"none{text}")):
        if "\x00" in text and words[0] != "recommend":
            continue
        code, out, err = run(*words)
        assert code != 0
        assert is_harmless(out + err)
        assert "9.9999" not in out
        assert not any(line.startswith("   1 ") for line in err.splitlines())


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_warnings_are_one_harmless_line(run, text, monkeypatch):
    def warned(arguments):
        warnings.warn(f"segment {text} has nothing", stacklevel=1)
        return Answer({}, "done")

    monkeypatch.setattr(commands, "fetch", warned)
    monkeypatch.setattr("mfcore.cli.parser.fetch", warned)
    warned.__name__ = "fetch"
    code, out, err = run("fetch")
    assert (code, out) == (0, "done\n")
    assert err.startswith("mfcore: warning: segment")
    assert err.count("\n") == 1
    assert is_harmless(err)


# ------------------------------------------------------------------------------ files

def test_lists_go_into_a_file(run, model, tmp_path):
    titles = tmp_path / "titles.csv"
    titles.write_text("i1,One\ni2,Two\n")
    out = tmp_path / "lists.csv"
    code, text, _ = run("recommend", model, "--all", "--k", 3, "--titles", titles, "--out", out)
    n_rows = mfcore.load(model).recommend_to(tmp_path / "other.csv", 3,
                                             titles={"i1": "One", "i2": "Two"})
    assert (code, text) == (0, f"{out}: {n_rows} rows of 20 users\n")
    assert out.read_text() == (tmp_path / "other.csv").read_text()


def test_some_users_with_filters_go_into_a_file(run, model, tmp_path):
    out = tmp_path / "lists.npy"
    user = mfcore.load(model).user_ids_[4]
    code, text, _ = run("recommend", model, "--user", user, "--include-seen", "--out", out,
                        "--json", "--quiet")
    assert code == 0
    assert json.loads(text) == {"file": str(out), "users": 1, "rows": 7}
    assert set(np.load(out)["user"]) == {user}


def test_a_file_of_another_kind_is_refused(run, model, tmp_path):
    code, text, err = run("recommend", model, "--all", "--out", tmp_path / "lists.txt")
    assert (code, text) == (1, "")
    assert "must end in .csv" in err
    code, _, err = run("recommend", model, "--all", "--out", tmp_path / "l.csv", "--memory", "1KB")
    assert code == 1
    assert "--memory must be at least" in err
