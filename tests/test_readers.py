"""Ratings files: what is read, how exactly, and what is refused with its line."""

from __future__ import annotations

import gzip
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from mfcore import Ratings, read_ratings
from mfcore.data import readers, textfile
from mfcore.data.convert import convert
from mfcore.data.layout import Reading, find_layout
from mfcore.data.parsing import _in_groups
from mfcore.data.readers import dataset_of, read_columns
from mfcore.data.textfile import text_of

ROWS = [(1, 10, 4.0, 100), (2, 10, 0.5, 101), (1, 11, -3.25, 102), (7, 12, 5.0, 99)]


def write(folder: Path, text: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(separator: str = ",", rows: list[tuple[float, ...]] = ROWS) -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def triples(ratings: Ratings) -> list[tuple[object, object, float]]:
    assert ratings.user_ids is not None
    assert ratings.item_ids is not None
    cells = ratings.by_user.tocoo()
    return sorted((ratings.user_ids[u], ratings.item_ids[i], float(r))
                  for u, i, r in zip(cells.row, cells.col, cells.data, strict=True))


EXPECTED = sorted(row[:3] for row in ROWS)


# ------------------------------------------------------------------------------- layouts


@pytest.mark.kernel
@pytest.mark.parametrize("separator", [",", "\t", "::", "|", ";", " "])
@pytest.mark.parametrize("header", ["", "user{0}item{0}rating{0}timestamp\n"])
def test_separator_and_header_are_found(tmp_path, separator, header) -> None:
    path = write(tmp_path, header.format(separator) + lines(separator))
    assert triples(read_ratings(path)) == EXPECTED


@pytest.mark.kernel
@pytest.mark.parametrize("text", [
    lines().replace("\n", "\r\n"), "\ufeff" + lines(), lines().rstrip("\n"), lines() + "\n\n \n",
    "\n" + lines(), lines().replace("\n", "\n\n"), lines().replace(",", " , "),
    "user,item,rating,timestamp\r\n" + lines().replace("\n", "\r\n"),
    lines().replace("\n", "\r"), "user,item,rating,timestamp\r" + lines().replace("\n", "\r"),
    lines().replace("\n", "\r", 1), lines().replace("\n", "\r\r\n")],
    ids=["crlf", "bom", "no final newline", "blank lines at the end", "blank line first",
         "blank lines between", "spaces around", "crlf and header", "cr", "cr and header",
         "one cr", "cr crlf"])
def test_harmless_differences_change_nothing(tmp_path, text) -> None:
    assert triples(read_ratings(write(tmp_path, text))) == EXPECTED


@pytest.mark.kernel
@pytest.mark.parametrize(("text", "separator"), [
    ("1,2,Action|Comedy|Drama\n", ","), ("1\t2\tAction|Comedy;Drama\n", "\t"),
    ("1::2::Action|Comedy|Drama\n", "::"), ("1;2;Action|Comedy|Drama\n", ";")])
def test_lists_in_a_further_column_do_not_separate(text, separator) -> None:
    layout = find_layout("x", [text], Reading(rating=None))
    assert layout.separator == separator
    assert read_columns(text_of("x", text.encode()), Reading(rating=None)).items.tolist() == [2]


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["C1,POST\nC2,22423\nC3,POST\n", "user1,item1\n2,3\n1,4\n",
                                  "user:1,item:1\nuser:2,3\n4,4\n", "a,b\n1,2\n3,4\n"])
@pytest.mark.parametrize("options", [{}, {"user": 0, "item": 1}], ids=["default", "positions"])
def test_no_line_is_taken_for_a_header_for_want_of_numbers(text, options) -> None:
    columns = read_columns(text_of("x", text.encode()), Reading(rating=None, **options))
    wanted = [line.split(",")[0] for line in text.split()]
    assert np.asarray(columns.users).astype(str).tolist() == wanted


@pytest.mark.kernel
@pytest.mark.parametrize("header", ["user,item", "userId,movie_id", "User ID,sku"])
def test_a_header_without_a_rating_is_known_by_its_words(header) -> None:
    columns = read_columns(text_of("x", f"{header}\nann,tea\n".encode()),
                           Reading(rating=None, item=1))
    assert np.asarray(columns.users).tolist() == ["ann"]


@pytest.mark.kernel
def test_words_in_the_id_columns_make_no_header_of_a_line_with_a_rating() -> None:
    columns = read_columns(text_of("x", b"user,movie,5\nbob,score,3\n"))
    assert np.asarray(columns.users).tolist() == ["user", "bob"]


@pytest.mark.kernel
@pytest.mark.parametrize("field", ["NA", "NaN", "nan", "null", "NULL", "", "-", "N/A", "<NA>",
                                   "\\N", "?", "5 stars", "3;5", "None"])
@pytest.mark.parametrize("ids", ["ann,x", "user,item"])
def test_a_missing_rating_in_the_first_line_makes_no_header(field, ids) -> None:
    source = text_of("x", f"{ids},{field}\nbob,y,4\n".encode())
    with pytest.raises(ValueError, match=re.escape(
            f"x, line 1: expected a number in column 3, got {field!r}")):
        read_columns(source)
    with pytest.raises(ValueError, match="x, line 1: expected a number"):
        read_columns(source, Reading(user=0, item=1, rating=2))


@pytest.mark.kernel
@pytest.mark.parametrize(("text", "missing"), [
    ("sku,client,stars\nA1,ann,5\nA2,bob,3\n", "user item"),
    ("sku,client,stars\n1,2,5\n2,3,3\n", "user item"),
    ("order,client,sku,qty\n1,2,3,4\n", "user item rating"),
    ("order,client,sku,qty\n1,ann,A1,4\n", "user item rating"),
    ("user,item,qty\n1,2,3\n", "rating"), ("user,item\n1,2\n", "rating"),
    ("user,sku,rating\n1,2,3\n", "item")])
def test_a_header_without_the_usual_names_is_no_ground_for_guessing(text, missing) -> None:
    names = ", ".join(text.split()[0].split(","))
    listed = ", ".join(f"{each!r} for {each}" for each in missing.split())
    with pytest.raises(ValueError, match=re.escape(
            f"x has no column {listed}; its columns: {names}; name them: "
            f"user=..., item=..., rating=...")):
        read_columns(text_of("x", text.encode()))


@pytest.mark.kernel
def test_columns_of_any_header_can_be_told_by_position() -> None:
    columns = read_columns(text_of("x", b"order,client,sku,qty\n1,2,3,4\n"),
                           Reading(user=1, item=2, rating=3))
    assert (np.asarray(columns.users).tolist(), np.asarray(columns.items).tolist()) == ([2], [3])


@pytest.mark.kernel
def test_runs_of_spaces_and_tabs_separate() -> None:
    columns = read_columns(text_of("x", b"  1 \t 10   4.0\n2\t10 0.5  \n"))
    assert np.asarray(columns.users).tolist() == [1, 2]
    assert columns.values is not None
    assert columns.values.tolist() == [4.0, 0.5]


@pytest.mark.kernel
@pytest.mark.parametrize("separator", [" - ", "#", "::", "\x01", "¦"])
def test_any_other_separator_can_be_named(tmp_path, separator) -> None:
    path = write(tmp_path, lines(separator))
    assert triples(read_ratings(path, separator=separator)) == EXPECTED


@pytest.mark.kernel
@pytest.mark.parametrize("names", ["userId,movieId,rating,timestamp",
                                   "user_id:token,item_id:token,rating:float,timestamp:float",
                                   "User ID,Product,Score,Time"])
def test_usual_spellings_are_understood_in_any_order(tmp_path, names) -> None:
    order = [3, 1, 2, 0]
    turned = ",".join(names.split(",")[c] for c in order) + "\n" + lines(
        rows=[tuple(row[c] for c in order) for row in ROWS])
    assert triples(read_ratings(write(tmp_path, turned))) == EXPECTED


@pytest.mark.kernel
def test_columns_are_chosen_by_name_or_position(tmp_path) -> None:
    path = write(tmp_path, "n,plays,who,what\n" + lines(
        rows=[(t, row[2], row[0], row[1]) for t, row in enumerate(ROWS)]))
    assert triples(read_ratings(path, user="who", item="what", rating="plays")) == EXPECTED
    assert triples(read_ratings(path, user=2, item=3, rating=1, header=True)) == EXPECTED


@pytest.mark.kernel
def test_without_a_rating_column_every_line_counts_as_one(tmp_path) -> None:
    path = write(tmp_path, "1,10\n2,10\n1,10\n")
    ratings = read_ratings(path, rating=None, duplicates="sum")
    assert triples(ratings) == [(1, 10, 2.0), (2, 10, 1.0)]


@pytest.mark.kernel
def test_weights_are_read_beside_the_ratings(tmp_path) -> None:
    ratings = read_ratings(write(tmp_path, "1,10,4,.5\n0,11,3,2\n"), weight=3)
    assert ratings.weights is not None
    assert ratings.weights.tolist() == [2.0, 0.5]


@pytest.mark.kernel
def test_a_dataset_keeps_timestamps_and_line_order(tmp_path) -> None:
    path = write(tmp_path, "user,item,rating,timestamp\n" + lines())
    data = dataset_of(read_columns(path, Reading(timestamp="timestamp")))
    assert data.file_order is not None
    assert data.timestamps is not None
    assert data.file_order.tolist() == [0, 2, 1, 3]
    assert data.timestamps.tolist() == [100, 102, 101, 99]
    assert data.ratings.by_user.data.tolist() == [4.0, -3.25, 0.5, 5.0]


@pytest.mark.kernel
def test_timestamps_with_a_fraction_are_cut_to_seconds() -> None:
    columns = read_columns(text_of("x", b"1,2,3,881250949.75\n"), Reading(timestamp=3))
    assert columns.timestamps is not None
    assert columns.timestamps.tolist() == [881250949]


@pytest.mark.kernel
def test_a_timestamp_beyond_64_bits_is_named() -> None:
    source = text_of("x", b"1,2,3,4\n1,3,3,99999999999999999999\n")
    with pytest.raises(ValueError, match="x, line 2: expected a whole number of seconds"):
        read_columns(source, Reading(timestamp=3))


# ----------------------------------------------------------------------------------- ids


@pytest.mark.kernel
def test_ids_that_are_no_integers_are_strings(tmp_path) -> None:
    text = "user,item,rating\nann,10002,5\nbob,10123C,3\n"
    ratings = read_ratings(write(tmp_path, text))
    assert triples(ratings) == [("ann", "10002", 5.0), ("bob", "10123C", 3.0)]


@pytest.mark.kernel
def test_quotes_protect_separators_and_line_ends(tmp_path) -> None:
    text = '"user","item","rating"\n"Bond, James","a ""b""",5\n"two\nlines",c,"3.5"\n'
    assert triples(read_ratings(write(tmp_path, text))) == [
        ("Bond, James", 'a "b"', 5.0), ("two\nlines", "c", 3.5)]


@pytest.mark.kernel
def test_quoted_integers_are_integers(tmp_path) -> None:
    ratings = read_ratings(write(tmp_path, '"1","10","4"\n"2","10","5"\n'))
    assert triples(ratings) == [(1, 10, 4.0), (2, 10, 5.0)]


@pytest.mark.kernel
def test_leading_zeros_stay(tmp_path) -> None:
    path = write(tmp_path, "007,01,5\n7,01,4\n")
    for given in {}, {"text_ids": True}:
        assert triples(read_ratings(path, **given)) == [("007", "01", 5.0), ("7", "01", 4.0)]


@pytest.mark.kernel
def test_numbers_beyond_int64_are_names(tmp_path) -> None:
    big = "92233720368547758080"
    assert triples(read_ratings(write(tmp_path, f"{big},1,5\n")))[0][0] == big


@pytest.mark.kernel
def test_other_encodings_are_read_when_named(tmp_path) -> None:
    path = write(tmp_path, "Zoë,Amélie,5\nBob,X,3\n".encode("latin-1"))
    assert triples(read_ratings(path, encoding="latin-1"))[1][:2] == ("Zoë", "Amélie")
    with pytest.raises(ValueError, match=r"ratings.csv, line 1: is not utf-8 text.*latin-1"):
        read_ratings(path)


# ------------------------------------------------------------------------ gzip and parquet


@pytest.mark.kernel
def test_gzip_is_known_by_its_content(tmp_path) -> None:
    path = write(tmp_path, gzip.compress(lines().encode()), "ratings.dat")
    assert triples(read_ratings(path)) == EXPECTED


@pytest.mark.kernel
def test_a_truncated_gzip_file_is_refused(tmp_path) -> None:
    whole = gzip.compress(lines().encode())
    for cut in (len(whole) // 2, len(whole) - 4):
        with pytest.raises(ValueError, match="damaged or truncated gzip"):
            read_ratings(write(tmp_path, whole[:cut], "ratings.csv.gz"))


def test_parquet_gives_what_csv_gives(tmp_path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    users, items, values, moments = (list(column) for column in zip(*ROWS, strict=True))
    table = pa.table({"item_id": items, "user_id": users, "rating": values,
                      "timestamp": pa.array(moments, pa.timestamp("s"))})
    pq.write_table(table, tmp_path / "r.parquet")
    assert triples(read_ratings(tmp_path / "r.parquet")) == EXPECTED
    data = dataset_of(read_columns(tmp_path / "r.parquet", Reading(timestamp="timestamp")))
    assert data.timestamps is not None
    assert data.timestamps.tolist() == [100, 102, 101, 99]


def test_parquet_categories_are_string_ids(tmp_path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"user": pa.array(["b", "a"]).dictionary_encode(),
                             "item": pa.array(["x", "y"], pa.large_string()),
                             "rating": pa.array([1, 2], pa.int8())}), tmp_path / "r.parquet")
    assert triples(read_ratings(tmp_path / "r.parquet")) == [("a", "y", 2.0), ("b", "x", 1.0)]


@pytest.mark.parametrize(("columns", "demand"), [
    ({"user": [1, None], "item": [1, 2], "rating": [1.0, 2.0]}, "'user' has 1 empty cells"),
    ({"user": [1, 2], "item": [1, 2], "rating": [1.0, math.nan]},
     "'rating' must not be missing, got nan in row 1"),
    ({"user": [1, 2], "item": [1, 2], "rating": [True, False]}, "'rating' must be numbers, got tr"),
    ({"user": ["a", "NULL"], "item": [1, 2], "rating": [1.0, 2.0]}, "must hold ids, got 'NULL' in"),
    ({"user": [1, 2], "item": [1, 2], "rating": ["a", "b"]}, "must be numbers"),
    ({"user": [1, 2], "rating": [1.0, 2.0]}, "no column 'item' for item; its columns: user, rat"),
    ({"sku": [1, 2], "client": [1, 2], "stars": [1.0, 2.0]}, "columns: sku, client, stars; name"),
    ({"user": [], "item": [], "rating": []}, "holds no ratings")])
def test_bad_parquet_columns_are_named(tmp_path, columns, demand) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    with pytest.raises((ValueError, TypeError), match=demand):
        read_ratings(tmp_path / "r.parquet")


def test_a_damaged_parquet_file_is_refused(tmp_path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"r.parquet is a damaged parquet file"):
        read_ratings(write(tmp_path, b"PAR1 nothing more", "r.parquet"))


@pytest.mark.parametrize("read", [read_ratings, lambda path: convert(
    path, path.parent / "out")], ids=["read", "convert"])
def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch, read) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'mfcore\[parquet\]'"):
        read(write(tmp_path, b"PAR1", "r.parquet"))


# -------------------------------------------------------------------------------- threads


def many_lines(n: int) -> bytes:
    rng = np.random.default_rng(3)
    users, items = rng.permutation(n), rng.integers(0, 50, n)
    values = rng.integers(1, 11, n) / 2
    return "".join(f"{u},{i},{v}\n" + ("\n" if u % 97 == 0 else "") for u, i, v in
                   zip(users, items, values, strict=True)).encode()


@pytest.mark.parametrize("n_threads", [1, 2, 8])
def test_chunks_and_threads_do_not_change_what_is_read(monkeypatch, n_threads) -> None:
    source = text_of("many", many_lines(5000))
    whole = read_columns(source)
    monkeypatch.setattr(readers, "BLOCK_BYTES", 1000)
    cut = read_columns(source, n_threads=n_threads)
    assert len(whole.users) == 5000
    for name in ("users", "items", "values"):
        assert np.array_equal(getattr(whole, name), getattr(cut, name))


def test_the_line_of_an_error_is_counted_over_all_chunks(monkeypatch) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", 100)
    text = b"1,2,3\n" * 500 + b"1,2,oops\n" + b"1,2,3\n" * 500 + b"1,2,later\n"
    with pytest.raises(ValueError, match=r"many, line 501: .* got 'oops'"):
        read_columns(text_of("many", text), n_threads=2)


def test_a_chunk_of_separators_alone_is_a_line_of_missing_ids(monkeypatch) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", 6)
    with pytest.raises(ValueError, match="line 2: expected a user id in column 1, got ''"):
        read_columns(text_of("cut", b"1,2,3\n,,"))


def test_timestamps_before_the_first_of_all_are_read() -> None:
    found = read_columns(text_of("old", b"1,2,3,-5\n2,3,4,5e18\n"), Reading(timestamp=3))
    assert found.timestamps.tolist() == [-5, 5 * 10**18]


def test_a_weight_of_0_is_a_weight() -> None:
    found = read_columns(text_of("weighed", b"1,2,3,0\n2,3,4,0.5\n"), Reading(weight=3))
    assert found.weights.tolist() == [0, 0.5]


def test_as_many_blocks_are_read_at_a_time_as_there_are_threads() -> None:
    assert [list(group) for group, _ in _in_groups(iter(range(5)), 2)] == [[0, 1], [2, 3], [4]]


def test_a_line_longer_than_a_chunk_is_read(monkeypatch) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", 100)
    text = b"1,2,3,\n4,5,6," + b"x" * 1000 + b"\n7,8,9\n"
    assert read_columns(text_of("long", text)).users.tolist() == [1, 4, 7]


# ---------------------------------------------------------------------------- complaints


@pytest.mark.kernel
@pytest.mark.parametrize(("text", "message"), [
    ("1,2,3\n1,3,4\n1,4,abc\n", "line 3: expected a number in column 3, got 'abc'"),
    ("user,item,rating\n1,3,4\n1,4,abc\n",
     r"line 3: expected a number in column 3 \('rating'\), got 'abc'"),
    ("a,2,3\nb,3,x\n", "line 2: expected a number in column 3, got 'x'"),
    ("1,2,3\n1,3,\n", "line 2: expected a number in column 3, got ''"),
    ("1,2,3\n1,3\n", "line 2: expected at least 3 columns separated by ',', got 2: '1,3'"),
    ("a,2,3\nb,3\n", "line 2: expected at least 3 columns separated by ',', got 2: 'b,3'"),
    ("1,2,3\n\n\n1,3,nan\n", "line 4: expected a number in column 3, got 'nan'"),
    ("a,2,3\nb,3,nan\n", "line 2: expected a number in column 3, got 'nan'"),
    ("1,2,3\n1,3,-inf\n", "line 2: expected a number in column 3, got '-inf'"),
    ("1,2,3\n1,3,1e999\n", "line 2: expected a number in column 3, got '1e999'"),
    ("a,2,3\nb,3,inf\n", "line 2: expected a number in column 3, got 'inf'"),
    ("a,2,3\n,3,4\n", "line 2: expected a user id in column 1, got ''"),
    ("1;2;3,5\n1;3;4,0\n", "line 1: expected a number in column 3, got '3,5'"),
    ('a,2,3\n"b,3,4\n', "line 2: begins a field with a quote that does not end"),
    ("1,2\n2,3\n", "must have 3 columns for rating='rating', got 2: '1', '2'; rating=None"),
    ("1;2;3\n1;3;4,0\n", "got '4,0'; write decimals with a point, and thousands without a comma"),
    ("1,2,3\n1,3,x\n", "got 'x'; correct the line, or leave it out"),
    ("1,2,3\n1,3," + "x" * 61 + "\n", "got '" + "x" * 60 + "'"),
    ("1,2,3\n1,3,1e999\n1,4,1e998\n", "line 2: expected a number in column 3, got '1e999'"),
    ("#a\n1,2,3\n1,3,4\n#b\n1,2,oops\n", "line 4: begins with '#', as the lines at the top do"),
    ("user,item,rating\nTrue,2,3\nfalse,3,4\n", r"line 2: .* user id .* only True and False"),
    ("TRUE,2,3\n", "line 1: .* user id in column 1, got only True and False; say text_ids=True"),
    ("1,true,3\n1,True,3\n1,TRUE,3\n1,tRuE,3\n1,false,3\n1,False,3\n1,FALSE,3\n",
     "line 1: expected an item id in column 2, got only True and False"),
    ("user,item,rating\n", "has a header and no line of ratings"),
    ("Dear diary\n", "must have 3 columns .* got 2: 'Dear', 'diary'"),
    ("It was a dark night\n", "line 1: expected a number in column 3, got 'a'"),
    ("one\ntwo\n", "line 1: expected at least two columns separated by"),
    ("", "ratings.csv is empty"),
    ("\n \n", "ratings.csv is empty"),
    ("\ufeff", "ratings.csv is empty"),
    ("\x1f", "ratings.csv is empty"),
    ("\xa0\n", "ratings.csv is empty"),
    (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file"),
    (b"PK\x03\x04rest", "is a binary file"),
    (b"SQLite format 3\0", "is a binary file: a database, .* Ratings.from_frame"),
    ("1,2,3\n".encode("utf-32"), "is a binary file: text in UTF-32; say encoding='utf-32'"),
    ('{"user": 1, "item": 2}\n', "line 1: begins JSON; Ratings.from_frame"),
    ("[\n  [1, 2, 3]\n]\n", "line 1: begins JSON"),
    ("<!DOCTYPE html>\n", "line 1: begins a web page"),
    ("1\x012\x013\n", "separator=... names another one"),
    ("user,user,item,rating\n1,2,3,4\n", "several columns 'user'; say which by .* user=0"),
    ("1,2,3\n".encode("utf-16"), "is a binary file")])
def test_what_is_no_ratings_file_is_refused_with_its_line(tmp_path, text, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_ratings(write(tmp_path, text))


@pytest.mark.kernel
@pytest.mark.parametrize(("options", "message"), [
    ({"user": "who"}, r"has no column 'who' for user; its columns: user, item, rating"),
    ({"weight": "weight"}, "has no column 'weight' for weight"),
    ({"item": 7}, "must have 8 columns for item=7, got 3"),
    ({"user": -1}, "user must be >= 0"),
    ({"user": 1}, "user and item are both column 2"),
    ({"separator": ""}, "separator must be"),
    ({"duplicates": "first"}, "duplicates must be one of")])
def test_options_that_do_not_fit_the_file_are_refused(tmp_path, options, message) -> None:
    path = write(tmp_path, "user,item,rating\n1,2,3\n")
    with pytest.raises(ValueError, match=message):
        read_ratings(path, **options)


@pytest.mark.kernel
def test_a_name_asked_of_a_file_without_header_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="no column 'who' for user; it has no header"):
        read_ratings(write(tmp_path, lines()), user="who", header=False)


@pytest.mark.kernel
def test_a_date_as_timestamp_is_refused_with_its_line() -> None:
    with pytest.raises(ValueError, match="line 2: expected a whole number of seconds in column 4"):
        read_columns(text_of("x", b"1,2,3,4\n1,3,4,2020-01-01\n"), Reading(timestamp=3))


def test_missing_files_and_folders_are_named(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.csv"):
        read_ratings(tmp_path / "nowhere.csv")
    with pytest.raises(FileNotFoundError, match="there is no file .*nowhere.parquet"):
        read_ratings(tmp_path / "nowhere.parquet")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_ratings(tmp_path)


@pytest.mark.kernel
def test_repeated_pairs_are_refused_unless_told_how(tmp_path) -> None:
    path = write(tmp_path, "1,2,3\n1,2,5\n")
    with pytest.raises(ValueError, match="must come once"):
        read_ratings(path)
    with pytest.raises(ValueError, match="must come once"):
        dataset_of(read_columns(path))
    assert triples(read_ratings(path, duplicates="last")) == [(1, 2, 5.0)]


# --------------------------------------------------------------------------- gzip bombs

@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """A small file that unpacks to 2 MB, where a tenth of that is the most."""
    monkeypatch.setattr(textfile, "MAX_BYTES", 200_000)
    path = tmp_path / "ratings.csv.gz"
    path.write_bytes(gzip.compress(b"1,2,3\n" + b"\n" * 2_000_000))
    assert path.stat().st_size * textfile.MAX_RATIO < 1_000_000
    return path


@pytest.mark.parametrize("read", [read_ratings, lambda path: convert(
    path, path.parent / "out")], ids=["read", "convert"])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory_or_the_disk(bomb, read):
    with pytest.raises(ValueError, match="unpacks to more than .* as no ratings file does"):
        read(bomb)
    assert sum(each.stat().st_size for each in bomb.parent.rglob("*") if each.is_file()) < 1_300_000


def test_a_file_that_packs_well_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(textfile, "MAX_BYTES", 100_000)
    path = tmp_path / "ratings.csv.gz"
    lines = "".join(f"{user},{item},5\n" for user in range(200) for item in range(100))
    path.write_bytes(gzip.compress(lines.encode()))
    assert len(lines) > 100_000
    assert read_ratings(path).nnz == 20_000


def test_a_date_in_a_text_file_is_sent_to_where_dates_are_read(tmp_path):
    path = tmp_path / "dated.csv"
    path.write_text("user,item,rating,timestamp\nann,tea,3,2024-05-01\n")
    with pytest.raises(ValueError, match=r"line 2: expected a whole number.*parse_dates"):
        read_ratings(path, time_column="timestamp")
