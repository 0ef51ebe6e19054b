"""The grammar of text files: what is a field, a number, an id; one grammar, however it is read."""

from __future__ import annotations

import csv
import io
import random
import re
import warnings

import grammar
import numpy as np
import odd_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfcore.data import blocks, readers
from mfcore.data.blocks import opened
from mfcore.data.dialect import Dialect, LineError, first_records, quick_records, records
from mfcore.data.ids import as_objects
from mfcore.data.layout import Reading
from mfcore.data.readers import read_columns
from mfcore.data.textfile import text_of
from mfcore.data.words import Words, invisible
from mfcore.kernels import text as kernel


def read(text: str | bytes, **given):
    return read_columns(text_of("x", text.encode() if isinstance(text, str) else text),
                        Reading(**given))


def ids(column) -> list:
    return np.asarray(column).tolist()


# ------------------------------------------------------------------------------ one grammar


@pytest.mark.kernel
@pytest.mark.filterwarnings("ignore:.*is read as a rating")
@given(st.integers(0, 2**32), st.booleans())
def test_a_kernel_reads_what_csv_reads_to_the_bit_or_to_the_complaint(seed, quotes) -> None:
    draw = random.Random(seed)
    data, given = grammar.text(draw, quotes), grammar.options(draw)
    first, second = grammar.both(data, given, draw)
    assert first == second


@pytest.mark.kernel
@pytest.mark.filterwarnings("ignore:.*is read as a rating")
@given(st.integers(0, 2**32))
def test_a_kernel_reads_what_a_naive_twin_reads(seed) -> None:
    draw = random.Random(seed)
    data, given = grammar.text(draw), grammar.options(draw)
    if set(data.decode("utf-8", "replace")) & set("\u00a0\ufeff\u200b\ufffd\0"):
        return                              # (the twin does not know what nobody sees)
    found, wanted = grammar.outcome(data, given), grammar.naive(data, given)
    assert wanted is None or wanted in (found, grammar.complaint_line(found))


def test_the_comparison_sees_a_reader_that_differs(monkeypatch) -> None:
    true = blocks._kinds
    monkeypatch.setattr(blocks, "_kinds", lambda blanks, ends, separator:
                        true(blanks, ends.replace(b"\r", b""), separator))
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert grammar.run(40, 0)["different"] > 0


@given(st.lists(st.lists(st.text('a1",; \n\r#', max_size=4).map(str.lstrip), min_size=2,
                         max_size=3), min_size=1, max_size=4), st.sampled_from([",", ";", "::"]))
def test_records_are_those_that_were_written(rows, separator) -> None:
    written = "\r\n".join(separator.join('"' + field.replace('"', '""') + '"' for field in row)
                           for row in rows)
    lines = list(io.StringIO(written, newline=""))
    assert [fields for _, fields in records(lines, Dialect(separator))] == rows


def test_records_are_numbered_by_their_first_line() -> None:
    lines = ["# top\n", "1,2\n", "\n", '"a\n', 'b",3\n', "4,5\n"]
    found = list(records(lines, Dialect(",", comment="#"), before=10))
    assert found == [(12, ["1", "2"]), (14, ["a\nb", "3"]), (16, ["4", "5"])]


@pytest.mark.parametrize(("lines", "line", "complaint"), [
    (['1,"a\n', "b\n"], 1, "begins a field with a quote that does not end; quoting=False"),
    (["1,2\n", '"a"b,3\n'], 2, "has text after the end of a quoted field; write a quote in it twi"),
    (["1,2\n", "x" * 140_000 + ",2\n"], 2, "has a field of more than 131,072 characters")])
def test_what_keeps_a_record_from_being_read_is_named_with_its_line(lines, line, complaint) -> None:
    with pytest.raises(LineError) as found:
        list(records(lines, Dialect(",")))
    assert (found.value.line, found.value.complaint[:len(complaint)]) == (line, complaint)
    with pytest.raises(csv.Error):
        list(quick_records("".join(lines), Dialect(","), lambda width: True))
    assert len(first_records(lines, Dialect(","))) == line - 1


def test_a_long_field_is_read_where_csv_allows_it() -> None:
    text = f"1,2,3,{'x' * 140_000}\n2,3,4,y\n"
    with pytest.raises(ValueError, match="x, line 1: has a field of more than 131,072 .*csv.f"):
        read(text)
    kept = csv.field_size_limit(200_000)
    try:
        assert ids(read(text).users) == [1, 2]
    finally:
        csv.field_size_limit(kept)


# ---------------------------------------------------------------------------------- numbers


@pytest.mark.kernel
@given(st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.from_regex(r"\A[+-]?([0-9]{1,25}\.?|[0-9]{0,20}\.[0-9]{1,25})([eE][+-]?[0-9]{1,2})?\Z")))
def test_every_decimal_is_rounded_as_python_rounds_it(number) -> None:
    values = read(f"1,2,{number}").values
    assert values is not None
    assert values.tobytes() == np.array([float(number)]).tobytes()


@pytest.mark.kernel
@pytest.mark.parametrize("number", [
    "1e22", "1e23", "1e-22", "1e-23", "3e-23", "123456789e-23", "1e308", "1e-308", "5e-324",
    "9007199254740992", "9007199254740993", "18446744073709551617", "0.18446744073709551617",
    "0e999", "-0.0", "+.5e+1", "00000000000000000000000001.5", "1" * 400 + "e-400", "0.1", "1e-3"])
def test_decimals_at_the_limits_of_the_fast_way_are_exact(number) -> None:
    values = read(f"1,2,{number}").values
    assert values is not None
    assert values.tobytes() == np.array([float(number)]).tobytes()


@pytest.mark.kernel
@pytest.mark.parametrize("number", ["", "-", ".", "e5", "1e", "1e+", "1.2.3", "0x10", "nan", "inf",
                                    "1_0", "5 6", "--5", "five", "1e999", "\u0663", "1,5"])
@pytest.mark.parametrize("form", ["1,2,{}", "ann,2,{}", '1,2,"{}"', '"ann","2","{}"'])
def test_what_is_no_number_is_none_beside_any_id_and_in_quotes(number, form) -> None:
    if number == "1,5":                 # (with commas the line could be read in two ways)
        form = form.replace(",", ";")
    with pytest.raises(ValueError, match=f"x, line 1: expected a number in column 3, got "
                                         f"{re.escape(repr(number))}"):
        read(form.format(number))


@pytest.mark.kernel
@pytest.mark.parametrize(("text", "seconds"), [
    ("881250949.75", 881250949), ("-0.5", 0), (".5", 0), ("+7", 7), ("007", 7), ("12e2", 1200),
    ("9223372036854775807", 2**63 - 1), ("9223372036854775807.9", 2**63 - 1),
    ("1600000000123456789", 1600000000123456789)])
def test_timestamps_are_cut_to_whole_seconds_and_are_exact(text, seconds) -> None:
    times = read(f"1,2,3,{text}", timestamp=3).timestamps
    assert times is not None
    assert times.tolist() == [seconds]


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["9223372036854775808", "1e19", "2020-01-01", "", "1.2.3", "12e"])
@pytest.mark.parametrize("user", ["1", "ann", '"1"'])
def test_timestamps_that_do_not_fit_are_refused_with_their_line(text, user) -> None:
    with pytest.raises(ValueError, match="x, line 2: expected a whole number of seconds in column "
                                         f"4, got {text!r}"):
        read(f"{user},2,3,1\n{user},3,3,{text}\n", timestamp=3)


@pytest.mark.kernel
def test_weights_below_zero_are_refused_with_their_line() -> None:
    with pytest.raises(ValueError, match="line 2: expected a number >= 0 in column 4, got '-1'"):
        read("1,2,3,4\n1,3,3,-1\n", weight=3)


# -------------------------------------------------------------------------------------- ids


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["0", "-1", "9223372036854775807", "-9223372036854775808"])
def test_an_integer_as_python_prints_it_is_an_integer(text) -> None:
    assert ids(read(f"{text},1,5").users) == [int(text)]


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["007", "+7", "-0", "-07", "9223372036854775808", "7a", "0x7",
                                  "1_0", "\u0663", "92233720368547758080"])
@pytest.mark.parametrize("size", [1, 1 << 22])
def test_a_column_with_another_spelling_is_text_from_its_first_line_on(text, size, monkeypatch
                                                                       ) -> None:
    monkeypatch.setattr(readers, "BLOCK_BYTES", size)
    monkeypatch.setattr("mfcore.data.textfile._PIECE_BYTES", size)
    assert ids(read(f"7,1,5\n12,2,5\n7,3,5\n{text},4,5\n7,5,5\n").users) == \
        ["7", "12", "7", text, "7"]


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["1.5", "12346.0", "1e5", "-.5"])
def test_a_column_of_decimals_is_refused_as_in_frames(text) -> None:
    with pytest.raises(ValueError, match=re.escape(
            f"x, line 2: expected a user id in column 1, got the decimal {text!r}; write whole "
            f"numbers, or say text_ids=True")):
        read(f"7,1,5\n{text},2,5\n")
    assert ids(read(f"7,1,5\n{text},2,5\n", text_ids=True).users) == ["7", text]
    assert ids(read(f"7,1,5\n{text},2,5\nann,2,5\n").users) == ["7", text, "ann"]


@pytest.mark.kernel
@pytest.mark.parametrize("word", ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "Null",
                                  "None", "none", "<NA>", "#N/A", "\\N", "-", "?", "nil", "NaT",
                                  "(null)", "#REF!", "undefined", "."])
@pytest.mark.parametrize("form", ["{},x", '"{}","x"', "x,{}"])
@pytest.mark.parametrize("text_ids", [False, True])
def test_a_missing_id_is_refused_however_it_is_spelled(word, form, text_ids) -> None:
    what = "an item id in column 2" if form.startswith("x") else "a user id in column 1"
    with pytest.raises(ValueError, match=re.escape(f"x, line 2: expected {what}, got {word!r}; "
                                                   f"leave such lines out")):
        read(f"1,1,5\n{form.format(word)},4\n", text_ids=text_ids)


@pytest.mark.kernel
def test_words_for_missing_values_may_be_names() -> None:
    assert ids(read("NA,1,5\nNull,2,5\n", missing=()).users) == ["NA", "Null"]
    with pytest.raises(ValueError, match="line 2: expected a user id in column 1, got ''"):
        read("NA,1,5\n,2,5\n", missing=())
    with pytest.raises(ValueError, match="line 1: expected a user id in column 1, got 'X'"):
        read("X,1,5\n,2,5\n", missing=["x"])


@pytest.mark.kernel
@pytest.mark.parametrize("text", ["\ufeff1", "1\u200b", "a\u200bb", "1\u00a0", "\u00a0ann",
                                  "a\x01b", "ann\u3000", "a\u00adb", "\u2060x", "a\u2028b",
                                  "\u200eann"])
@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_ids_with_what_nobody_sees_are_refused_with_their_line(text, form) -> None:
    with pytest.raises(ValueError, match=r"x, line 2: expected a user id in column 1, got .*, "
                                         r"which has U\+[0-9A-F]{4} \(.*\) in it, that nobody"):
        read(f"ann,1,5\n{form.format(text)},2,5\n")


@pytest.mark.kernel
@pytest.mark.parametrize("text", [
    "Zo\u00eb", "\u5c71\u7530\u3000\u592a\u90ce", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647",
    "\U0001f469\u200d\U0001f467", "\U0001f3f4\U000e0067\U000e0062\U000e007f", "e\u0301", "a b",
    "'x'"],
    ids=["accent", "wide space", "joiner", "family", "flag", "combining", "space", "apostrophes"])
def test_ids_of_any_script_are_kept(text) -> None:
    assert invisible(text) is None
    assert ids(read(f"{text},1,5\n").users) == [text]


@pytest.mark.kernel
@given(st.lists(st.lists(st.text("ab\u00e9\U0001f600", max_size=3), max_size=30), max_size=4))
def test_words_are_numbered_as_a_dict_numbers_them(columns) -> None:
    words, codes = Words(), {}
    for column in columns:
        parts = [text.encode() for text in column]
        ends = np.cumsum([0, *map(len, parts)]).astype(np.int32)
        found, rows = words.numbers(np.frombuffer(b"".join(parts), np.uint8), ends[:-1], ends[1:])
        known = len(codes)
        assert found.tolist() == [codes.setdefault(text, len(codes)) for text in column]
        assert [column[row] for row in rows] == list(codes)[known:]
    assert words.texts == list(codes)


@pytest.mark.kernel
def test_words_whose_hashes_meet_are_told_apart(monkeypatch) -> None:
    texts = [f"w{number}" for number in range(3000)]
    words = Words()
    words._table = np.full(1, -1, np.int64)         # (must grow at once)
    assert words.numbers_of(texts).tolist() == list(range(3000))
    assert words.numbers_of(texts[::-1]).tolist() == list(range(3000))[::-1]
    assert as_objects(words.texts).tolist() == texts


# -------------------------------------------------------------------------------- the kernel


def split(text: bytes, separator: bytes = b",", width: int = 1, columns=(0, 1, 2), most: int = 9,
          comment: bytes = b"", skip: bool = True):
    kinds = blocks._kinds(b" \t", b"\r\n", separator[0])
    data = np.frombuffer(text, np.uint8)
    slots = np.full(max(columns) + 1, -1)
    slots[list(columns)] = np.arange(len(columns))
    places = np.empty(data.size + 1, np.int32)
    places = places[:kernel.marks(data, kinds, places)]
    starts, stops = np.full((2, len(columns), places.size + 1), -1, np.int32)
    n_rows, status, place = kernel.split_lines(
        data, kinds, width, slots, most, np.frombuffer(comment, np.uint8), skip, places, starts,
        stops)
    return [[text[starts[slot, row]:stops[slot, row]].decode() for slot in range(len(columns))]
            for row in range(n_rows)], status, place


@pytest.mark.kernel
@pytest.mark.parametrize(("text", "options", "rows"), [
    (b"1,2,3\n4,5,6", {}, [["1", "2", "3"], ["4", "5", "6"]]),
    (b" 1 ,\t2, 3 \r\n\r\n \t\n4,,6\r7,8,", {}, [["1", "2", "3"], ["4", "", "6"], ["7", "8", ""]]),
    (b"a,skipped b,c,d\n", {"columns": (0, 2)}, [["a", "c"]]),
    (b"1::2:3::4\n:::: ::\n", {"separator": b":", "width": 2}, [["1", "2:3", "4"], ["", "", ""]]),
    (b"1:::2::3:\n", {"separator": b":", "width": 2}, [["1", ":2", "3:"]]),
    (b"  1 \t 2\t3  \n\t\n4 5 6", {"separator": b" ", "width": 0},
     [["1", "2", "3"], ["4", "5", "6"]]),
    (b"# 1,2\n1,2,3\n \t#x\n", {"comment": b"#"}, [["1", "2", "3"]]),
    (b"//\n1,2,3\n/,2,3\n", {"comment": b"//"}, [["1", "2", "3"], ["/", "2", "3"]]),
    (b"", {}, []), (b"\n", {}, [])])
def test_the_kernel_finds_the_fields(text, options, rows) -> None:
    assert split(text, **options) == (rows, kernel.DONE, len(text))


@pytest.mark.kernel
@pytest.mark.parametrize(("separator", "width"), [(b",", 1), (b":", 2), (b"\t", 1), (b" ", 0)])
@pytest.mark.parametrize("blanks", [("", ""), (" ", ""), ("", "  "), ("  ", " ")])
def test_spaces_around_fields_are_no_part_of_them(separator, width, blanks) -> None:
    before, after = blanks
    between = separator.decode() * max(width, 1)
    rows = [["1", "-20", "3.5"], ["+4", "5", "-.25"]]
    text = "".join(between.join(f"{before}{field}{after}" for field in row) + "\r\n"
                   for row in rows).encode()
    assert split(text, separator, width) == (rows, kernel.DONE, len(text))


@pytest.mark.kernel
@pytest.mark.parametrize(("text", "options", "status", "place"), [
    (b"1,2,3\n1,2\n", {}, kernel.WIDTH, 6), (b"1,2,3\n\n1,2,3,4\n", {"most": 3}, kernel.WIDTH, 7),
    (b"1,2,3\nx\n", {}, kernel.WIDTH, 6),
    (b"1 2 3\n1 2", {"separator": b" ", "width": 0}, kernel.WIDTH, 6),
    (b"1,2,3\n # no\n4,5,6\n", {"comment": b"#", "skip": False}, kernel.COMMENT, 6)])
def test_the_kernel_says_at_which_line_it_stopped(text, options, status, place) -> None:
    rows, *end = split(text, **options)
    assert (rows, end) == ([text[:5].decode().replace(" ", ",").split(",")], [status, place])


@pytest.mark.kernel
@pytest.mark.parametrize(("kernel_of", "texts", "bad"), [
    (kernel.integers, ["5", "-7", "0", "08"], 3), (kernel.integers, ["5", ""], 1),
    (kernel.integers, ["-"], 0), (kernel.integers, ["9223372036854775808"], 0),
    (kernel.integers, ["-9223372036854775809"], 0), (kernel.integers, ["10000000000000000000"], 0),
    (kernel.integers, ["9223372036854775807", "-9223372036854775808"], -1),
    (kernel.reals, ["5", "1e5", "1e+", "3"], 2), (kernel.reals, ["+", "3"], 0),
    (kernel.reals, ["1e5x"], 0), (kernel.reals, ["1.", ".5", "-1E-3"], -1),
    (kernel.seconds, ["5", "-7.9", "9223372036854775808"], 2), (kernel.seconds, ["."], 0)])
def test_kernels_say_in_which_row_they_stopped(kernel_of, texts, bad) -> None:
    data = np.frombuffer("".join(texts).encode(), np.uint8)
    ends = np.cumsum([0, *map(len, texts)]).astype(np.int32)
    out = np.zeros(len(texts), np.float64 if kernel_of is kernel.reals else np.int64)
    hard = () if kernel_of is kernel.integers else (np.zeros(len(texts), bool),)
    assert kernel_of(data, ends[:-1], ends[1:], out, *hard) == bad
    read = len(texts) if bad < 0 else bad
    assert out[:read].tolist() == [float(text) if kernel_of is kernel.reals else int(float(text))
                                   if len(text) < 18 else int(text) for text in texts[:read]]


@pytest.mark.kernel
@pytest.mark.parametrize("sign", ["", "+", "-"])
@pytest.mark.parametrize("number", [
    0, 9, 10**17, 10**18 - 1, 10**18, 922337203685477579, 922337203685477580, 922337203685477581,
    *range(2**63 - 9, 2**63 + 4), 9300000000000000000, 9999999999999999999, 10**19,
    18446744073709551616, 10**25])
def test_integers_are_read_up_to_the_largest_and_left_alone_beyond(sign, number) -> None:
    for text in (f"{sign}{number}", f"{sign}000{number}"):
        data = np.frombuffer(text.encode(), np.uint8)
        span = np.zeros(1, np.int32), np.full(1, len(text), np.int32)
        whole, cut, hard = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, bool)
        printed = text == str(int(text)) and -2**63 <= int(text) < 2**63
        assert kernel.integers(data, *span, whole) == (-1 if printed else 0)
        assert not printed or whole[0] == int(text)
        assert kernel.seconds(data, *span, cut, hard) == (-1 if number < 2**63 else 0)
        assert number >= 2**63 or (cut[0], hard[0]) == (int(text), False)


# ------------------------------------------------------------------------------------ blocks


@pytest.mark.kernel
@pytest.mark.parametrize("size", [1, 2, 5, 11, 1 << 20])
@pytest.mark.parametrize("text", [
    b"1,2,3\r\n4,5,6\r7,8,9\n1,3,4\r\r\n\r1,4,5\r",
    b'"1","2",3\r\n4,5,"6"\r"7\r\n7",8,9\n1,3,4\r\r\n\r1,"4","5"\r',
    b'1,2,3\n4,5,6\n7,8,9\n"a\nb\n\nc",1,2\n3,4,5\n'])
def test_where_a_text_is_cut_changes_nothing(text, size, monkeypatch) -> None:
    wanted = [np.asarray(column).tolist() for column in read(text)[:3]]
    monkeypatch.setattr(readers, "BLOCK_BYTES", size)
    monkeypatch.setattr(blocks, "BLOCK_RECORDS", size)
    monkeypatch.setattr("mfcore.data.textfile._PIECE_BYTES", size)
    assert [np.asarray(column).tolist() for column in read(text)[:3]] == wanted


def test_blocks_before_the_first_quote_are_handed_over_as_they_are() -> None:
    plain = b"".join(b"%d,2,3\n" % row for row in range(300_000))
    _, found = opened(text_of("x", plain + b'"7",8,9\n1,2,3\n'), Reading(), 1 << 20)
    *first, last = [block.text.tobytes() for block in found]
    assert len(first) > 1
    assert plain.startswith(b"".join(first))
    assert last.endswith(b"\xfe7\xff8\xff9\xfe1\xff2\xff3\xfe")


@pytest.mark.parametrize("quote", ["", '"'])
def test_the_first_thing_wrong_is_named_whatever_comes_later(quote) -> None:
    rows = [f"{quote}{row}{quote},{row},5".encode() for row in range(200)]
    for line, text in ((150, b"1,2,x"), (120, b"NULL,2,3"), (90, b"1,2"), (60, b"1,2,3,4"),
                       (40, b"1,-,3"), (30, b"\xff,2,3"), (20, b"1,2,\0")):
        rows[line - 1] = text
        with pytest.raises(ValueError, match=f"x, line {line}: "):
            read(b"\n".join(rows))


# ------------------------------------------------------------------------- beside pandas


def test_odd_files_are_read_as_by_pandas_or_refused_with_line_and_cure() -> None:
    pytest.importorskip("pandas")
    found = odd_files.run(60, 1)
    assert set(found) <= {"same", "refused", "refused by both", "read where pandas refuses"}
    assert found["same"] > 25
    assert found["refused"] + found["refused by both"] > 10


def test_the_comparison_with_pandas_sees_a_reader_that_differs(monkeypatch) -> None:
    pytest.importorskip("pandas")
    true = odd_files.triples
    monkeypatch.setattr(odd_files, "read_ratings", lambda path, **given: None)
    monkeypatch.setattr(odd_files, "triples", lambda ratings:
                        [] if ratings is None else true(ratings))
    assert odd_files.run(10, 1)["different"] > 0
