"""Times of ratings go with their cells, wherever these go."""

from __future__ import annotations

import copy
import datetime
import pickle

import numpy as np
import pytest
import scipy.sparse as sp

import mfcore
from mfcore import Ratings, read_ratings
from mfcore.data import split
from mfcore.data.convert import convert
from mfcore.data.layout import Reading
from mfcore.data.merging import merged
from mfcore.data.renumber import renumber_items

UTC = datetime.timezone.utc
DAYS = [datetime.datetime(2020, 1, day) for day in range(1, 5)]


def dated(seed: int = 0, kind: str = "M8[s]", shape: tuple[int, int] = (30, 20)) -> Ratings:
    """Return ratings whose times name their cells: user · 1000 + item, in some unit."""
    rng = np.random.default_rng(seed)
    cells = sp.csr_array(sp.random_array(shape, density=0.3, rng=rng))
    cells.data = rng.integers(1, 6, cells.nnz).astype(float)
    users = np.repeat(np.arange(shape[0]), np.diff(cells.indptr))
    return Ratings(
        cells,
        times=(1000 * users + cells.indices).astype(kind),
        weights=rng.random(cells.nnz),
        user_ids=np.arange(shape[0]),
        item_ids=np.arange(shape[1]),
    )


def are_those_of_their_cells(ratings: Ratings) -> bool:
    """Tell whether the times of ratings made by `dated` name the cells that they stand at."""
    users, items = (
        np.asarray(ids)[places]
        for ids, places in (
            (ratings.user_ids, ratings.users_of_cells),
            (ratings.item_ids, ratings.by_user.indices),
        )
    )
    numbers = np.asarray(ratings.times).astype("M8[s]").astype(int)
    return (
        bool(np.isin(numbers, (1000 * users + items, 1000 * items + users)).all())
        and len(numbers) == ratings.nnz > 0
    )


@pytest.mark.parametrize(
    "part",
    [
        lambda r: r,
        lambda r: r.transposed,
        lambda r: r.transposed.transposed,
        lambda r: r.select_cells(r.by_user.data > 2),
        lambda r: r.select_users([5, 3, 3 + 7]),
        lambda r: r.filter(min_per_user=4, min_per_item=5),
        copy.copy,
        copy.deepcopy,
        lambda r: pickle.loads(pickle.dumps(r)),
        lambda r: pickle.loads(pickle.dumps(r.transposed)),
        lambda r: renumber_items(r, np.arange(20)[::-1].copy(), 20, np.arange(20)[::-1]),
        lambda r: split.random_split(r, 0.3, 0)[1],
        lambda r: split.user_split(r, 0.3, 0.5, 0)[1],
        lambda r: r.decayed("1h"),
        lambda r: (
            merged(
                r.select_cells(r.by_user.data > 2),
                r.select_cells(r.by_user.data < 4),
                "add",
                "mean",
            ).ratings
        ),
        lambda r: merged(r, r.select_users([4, 9]), "replace", "last").ratings,
    ],
    ids=[
        "itself",
        "by item",
        "twice",
        "cells",
        "users",
        "core",
        "copy",
        "deepcopy",
        "pickle",
        "pickle by item",
        "renumbered",
        "split",
        "user split",
        "decayed",
        "merged",
        "replaced",
    ],
)
def test_times_go_with_their_cells(part):
    assert are_those_of_their_cells(part(dated()))


@pytest.mark.parametrize("kind", ["M8[s]", "M8[ns]", "i8", "f8"])
def test_a_folder_and_a_model_file_keep_times(tmp_path, kind):
    ratings = dated(kind=kind)
    ratings.write(tmp_path / "folder")
    model = mfcore.Popularity().fit(ratings)
    model.save(tmp_path / "model")
    for found in (Ratings.open(tmp_path / "folder"), mfcore.load(tmp_path / "model").ratings_):
        assert found.times.dtype == ratings.times.dtype
        np.testing.assert_array_equal(found.times, ratings.times)
        np.testing.assert_array_equal(found.transposed.times, ratings.transposed.times)


def test_a_folder_whose_times_differ_by_side_is_refused(tmp_path):
    dated().write(tmp_path / "folder")
    other = dated(kind="M8[ns]")
    from mfcore.data import folder

    times = np.load(tmp_path / "folder" / "item.times.npy")
    times[3] += 1
    np.save(tmp_path / "folder" / "item.times.npy", times)
    folder.seal(tmp_path / "folder", other.shape, other.user_ids, other.item_ids, ["s", False])
    with pytest.raises(folder.RatingsFolderError, match="item.times.npy is not the transpose"):
        Ratings.open(tmp_path / "folder")


def test_read_frames_and_converted_files_agree(tmp_path):
    lines = [(1, 5, 2.0, 300), (2, 5, 3.0, 100), (1, 7, 4.0, 200), (1, 5, 5.0, 250)]
    names = ("user", "item", "rating", "ts")
    text = ",".join(names) + "\n" + "".join(",".join(map(str, line)) + "\n" for line in lines)
    (tmp_path / "a.csv").write_text(text)
    frame = dict(zip(names, map(list, zip(*lines, strict=True)), strict=True))
    for duplicates, first in (("last", 250), ("sum", 300), ("mean", 300)):
        read = read_ratings(tmp_path / "a.csv", time_column="timestamp", duplicates=duplicates)
        assert read.times.tolist() == [first, 200, 100]
        framed = Ratings.from_frame(frame, time_column="ts", duplicates=duplicates)
        assert framed.times.tolist() == [first, 200, 100]
        for sources in (tmp_path / "a.csv", [lambda: frame]):
            out = tmp_path / f"{duplicates}{len(list(tmp_path.iterdir()))}"
            folder = convert(
                sources, out, duplicates=duplicates, reading=Reading(timestamp="timestamp")
            )
            assert folder.times.tolist() == [first, 200, 100]
            assert folder.transposed.times.tolist() == [first, 100, 200]
    assert read_ratings(tmp_path / "a.csv", duplicates="sum").times is None


def test_a_file_without_a_header_has_its_times_fourth(tmp_path):
    (tmp_path / "u.data").write_text("1\t5\t2\t300\n1\t7\t4\t200\n")
    assert read_ratings(tmp_path / "u.data", time_column="timestamp").times.tolist() == [300, 200]


def test_converted_dates_keep_their_unit(tmp_path):
    frame = {
        "user": [1, 1],
        "item": [2, 3],
        "when": np.array(["2020-01-02", "2020-01-01"], "M8[ns]"),
    }
    found = convert(
        [lambda: {**frame, "rating": [1, 2]}], tmp_path / "out", reading=Reading(timestamp="when")
    )
    np.testing.assert_array_equal(found.times, frame["when"])


@pytest.mark.parametrize(
    "given",
    [
        DAYS,
        np.array(DAYS, "M8[D]"),
        np.array(DAYS, "M8[ns]"),
        [day.replace(tzinfo=UTC) for day in DAYS],
        [
            (day + datetime.timedelta(hours=5)).replace(
                tzinfo=datetime.timezone(datetime.timedelta(hours=5))
            )
            for day in DAYS
        ],
    ],
    ids=["datetimes", "days", "nanoseconds", "utc", "elsewhere"],
)
def test_dates_of_any_kind_are_the_same_moments(given):
    ratings = Ratings(sp.csr_array(np.ones((2, 2))), times=given)
    assert ratings.times.astype("M8[D]").tolist() == [day.date() for day in DAYS]
    zone = {} if not ratings.moments.aware else {"tzinfo": UTC}
    train, test = split.time_split(ratings, at=datetime.datetime(2020, 1, 2, 1, **zone))
    assert (train.nnz, test.nnz) == (2, 2)


def test_a_pandas_column_may_have_a_zone():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "user": [1, 1],
            "item": [1, 2],
            "rating": [1.0, 2.0],
            "time": pd.to_datetime(["2020-01-01 05:00", "2020-01-02 00:00"]).tz_localize(
                "Asia/Tokyo"
            ),
        }
    )
    ratings = Ratings.from_frame(frame, time_column="timestamp")
    assert ratings.times.astype("M8[h]").tolist() == [
        datetime.datetime(2019, 12, 31, 20),
        datetime.datetime(2020, 1, 1, 15),
    ]


SECOND = 1_600_000_000


@pytest.mark.parametrize(
    ("times", "error", "message"),
    [
        ([*DAYS[:3], None], ValueError, r"times must not be missing, got None at position 3"),
        (np.array([*DAYS[:3], "NaT"], "M8[s]"), ValueError, "times must not hold NaT"),
        (
            [1, 2, float("nan"), 3],
            ValueError,
            "times must be finite, got nan at position 2 .*moment of",
        ),
        ([*DAYS[:3], 5], TypeError, "times must be numbers, or dates and times, and not both"),
        (np.array(["2024-05-01"] * 4, object), TypeError, "pandas.to_datetime"),
        (np.array([1, "May 3, 2024", 2, 3], object), TypeError, "in row 1; .*pandas.to_datetime"),
        (np.array(["1714521600"] * 4, object), TypeError, "astype.float. makes numbers of text"),
        ([*DAYS[:3], DAYS[3].replace(tzinfo=UTC)], TypeError, "must all have a time zone, or none"),
        (
            [SECOND, SECOND + 5, 1000 * SECOND, SECOND],
            ValueError,
            "times must be in one unit, got Unix times in s and in ms, such as 1600000000 and",
        ),
        (DAYS[:3], ValueError, r"times must have shape \(4,\), got \(3,\)"),
        (
            ["2020", "2021", "2022", "2023"],
            TypeError,
            r"np.array\(texts, 'datetime64\[s\]'\) reads",
        ),
        ([True] * 4, TypeError, "times must be numbers, or dates and times, got dtype bool"),
        (
            np.ma.array(range(4), mask=[0, 0, 1, 0]),
            ValueError,
            "must not be missing, .* position 2",
        ),
        (
            np.ma.array(np.array(DAYS, "M8[s]"), mask=[0, 0, 0, 1]),
            ValueError,
            "times must not be missing, got None at position 3",
        ),
        (
            np.array([1, 2, 3, 2**63], np.uint64),
            ValueError,
            r"times must be below 2\*\*63, got 922",
        ),
        (np.array([0, 1, 2, 10**15], "M8[D]"), ValueError, "times must fit into 64 bits of s"),
    ],
)
def test_times_that_cannot_be_are_refused(times, error, message):
    with pytest.raises(error, match=message):
        Ratings(sp.csr_array(np.ones((2, 2))), times=times)


def test_moments_of_several_units_are_exact():
    far = [np.datetime64(text) for text in ("3000-01-01", "2020-01-01T00:00:01", "1500")]
    found = Ratings(sp.csr_array(np.ones((1, 3))), times=np.array(far, object)).times
    assert found.tolist() == [each.astype("M8[s]").item() for each in far]
    large = Ratings(sp.csr_array(np.ones((1, 2))), times=np.array([2**60 + 1, 3], object)).times
    assert large.tolist() == [2**60 + 1, 3]


def test_moments_that_the_unit_of_the_ratings_cannot_hold_are_refused():
    ratings = Ratings(sp.csr_array(np.ones((2, 2))), times=np.array(DAYS, "M8[ns]"))
    with pytest.raises(ValueError, match="at must fit into 64 bits of ns, got 3000-01-01"):
        split.time_split(ratings, at="3000-01-01")
    late = Ratings(ratings.by_user, times=np.array(["3000-01-01"] * 4, "M8[s]"))
    with pytest.raises(ValueError, match="times must fit into 64 bits of ns"):
        merged(ratings, late, "add", "last")
    mixed = [np.datetime64("1600-01-01"), np.datetime64("2020-01-01T00:00:00.000000001")] * 2
    with pytest.raises(ValueError, match="times must fit into 64 bits of ns, got 1600-01-01"):
        Ratings(ratings.by_user, times=mixed)       # (NumPy's array of them says 2184)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "parquet", "parts"])
def test_a_column_keeps_its_zone_and_all_its_digits(library, tmp_path):
    pa = pytest.importorskip("pyarrow")
    pytest.importorskip("narwhals")
    when = np.array(["2020-01-01T05:00:00.123456789", "2020-01-02"], "M8[ns]")
    zoned = pa.array(when.astype(int), pa.timestamp("ns", "Asia/Tokyo"))
    given = pa.table({"user": [1, 1], "item": [1, 2], "rating": [1.0, 2.0], "time": zoned})
    if library == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(given, tmp_path / "a.parquet")
        found = read_ratings(tmp_path / "a.parquet", time_column="time")
    else:
        if library == "polars":
            given = pytest.importorskip("polars").from_arrow(given)
        elif library == "pandas":
            given = given.to_pandas()
        found = Ratings.from_frame(
            iter([given]) if library == "parts" else given, time_column="time"
        )
    assert found.moments.aware
    np.testing.assert_array_equal(found.times, when)


def test_parts_in_other_units_than_the_first_are_refused(tmp_path):
    parts = [
        {"user": [user], "item": [1], "rating": [1], "when": [SECOND * 1000**user]}
        for user in range(2)
    ]
    with pytest.raises(ValueError, match="times must be in one unit, got Unix times in s and in"):
        convert(
            [lambda: parts[0], lambda: parts[1]],
            tmp_path / "out",
            reading=Reading(timestamp="when"),
        )


def test_naive_and_aware_moments_are_not_compared():
    ratings = Ratings(sp.csr_array(np.ones((2, 2))), times=DAYS)
    aware = Ratings(ratings.by_user, times=[day.replace(tzinfo=UTC) for day in DAYS])
    with pytest.raises(TypeError, match="at must have no time zone"):
        split.time_split(ratings, at=datetime.datetime(2020, 1, 3, tzinfo=UTC))
    with pytest.raises(TypeError, match="at must have a time zone"):
        split.time_split(aware, at="2020-01-03")
    with pytest.raises(TypeError, match="times must have no time zone"):
        merged(ratings, aware, "add", "last")
    with pytest.raises(TypeError, match="times must be dates and times without a time zone"):
        merged(ratings, Ratings(ratings.by_user, times=range(4)), "add", "last")


def test_merged_ratings_have_times_where_both_have():
    ratings = dated()
    assert (
        merged(
            ratings, Ratings(ratings.by_user), "add", "last", users=range(30), items=range(20)
        ).ratings.times
        is None
    )


@pytest.mark.parametrize(("duplicates", "expected"), [("last", 1), ("sum", 2), ("mean", 2)])
def test_a_rating_given_again_keeps_the_last_time_or_the_latest(duplicates, expected):
    old, new = (Ratings(sp.csr_array([[3.0]]), times=[when]) for when in (2, 1))
    assert merged(old, new, "add", duplicates).ratings.times.tolist() == [expected]


def test_splits_by_time_take_the_times_of_the_ratings():
    ratings = dated(kind="i8")
    for cut in (split.leave_last_out, split.time_split):
        own, given = cut(ratings), cut(ratings, ratings.times)
        np.testing.assert_array_equal(own[1].by_user.toarray(), given[1].by_user.toarray())
    train, test = split.time_split(ratings, at=10_000)
    assert train.times.max() < 10_000 <= test.times.min()
    with pytest.raises(ValueError, match="the ratings have no times"):
        split.time_split(Ratings(ratings.by_user))


@pytest.mark.parametrize("half_life", ["1D", datetime.timedelta(days=1), np.timedelta64(24, "h")])
def test_a_half_life_halves_weights(half_life):
    ratings = Ratings(sp.csr_array(np.ones((2, 2))), times=DAYS, weights=[1, 1, 1, 3])
    np.testing.assert_allclose(ratings.decayed(half_life).weights, [1 / 8, 1 / 4, 1 / 2, 3])
    later = ratings.decayed(half_life, now="2020-01-05").weights
    np.testing.assert_allclose(later, [1 / 16, 1 / 8, 1 / 4, 3 / 2])
    unix = Ratings(ratings.by_user, times=np.array(DAYS, "M8[ms]").astype("i8"))
    np.testing.assert_allclose(unix.decayed(half_life).weights, [1 / 8, 1 / 4, 1 / 2, 1])
    np.testing.assert_allclose(unix.decayed(86_400_000.0).weights, [1 / 8, 1 / 4, 1 / 2, 1])


def test_a_rating_without_weight_is_not_the_last_one():
    ratings = Ratings(sp.csr_array(np.ones((2, 2))), times=DAYS, weights=[2, 1, 1, 0])
    np.testing.assert_allclose(ratings.decayed("1D").weights, [1 / 2, 1 / 2, 1, 0])
    assert ratings.decayed("1D", now="2020-01-03").weights.tolist() == [1 / 2, 1 / 2, 1, 0]
    with pytest.raises(ValueError, match="now must not be before the last rating, 2020-01-03"):
        ratings.decayed("1D", now="2020-01-02")
    model = mfcore.Popularity(half_life="1D").fit(ratings)
    new = Ratings(sp.csr_array(np.ones((1, 2))), times=DAYS[1:3])
    assert model.answers().of_items(new).bias.tolist() == [3 / 2]


def test_an_update_counts_from_the_last_rating_of_all():
    ratings = dated(kind="i8")
    old = ratings.times < 20_000
    model = mfcore.Popularity(half_life=5_000).fit(ratings.select_cells(old))
    found = model.update(ratings.select_cells(~old))
    whole = mfcore.Popularity(half_life=5_000).fit(found.ratings_)
    np.testing.assert_allclose(found.item_bias_, whole.item_bias_, rtol=1e-5)
    kept = found.forget(users=[29, 28])
    whole = mfcore.Popularity(half_life=5_000).fit(kept.ratings_)
    np.testing.assert_allclose(kept.item_bias_, whole.item_bias_, rtol=1e-5)


def test_ratings_before_1970_decay_from_the_last_of_them():
    ratings = Ratings(sp.csr_array(np.ones((1, 3))), times=[-300, -200, -100])
    np.testing.assert_allclose(ratings.decayed(100).weights, [1 / 4, 1 / 2, 1])
    np.testing.assert_allclose(ratings.decayed(100, now=-100).weights, [1 / 4, 1 / 2, 1])


@pytest.mark.parametrize(
    ("half_life", "options", "error", "message"),
    [
        ("1 fortnight", {}, ValueError, "half_life must be a length of time such as '30D'"),
        (
            30,
            {},
            TypeError,
            "half_life must be a length of time such as '30D' or '12h', or a timedelta",
        ),
        ("0D", {}, ValueError, "half_life must be a length of time"),
        ("1D", {"now": "2020-01-02"}, ValueError, "now must not be before the last rating"),
        ("1D", {"now": 7}, TypeError, "now must be a date or time"),
    ],
)
def test_a_half_life_that_cannot_be_is_refused(half_life, options, error, message):
    ratings = Ratings(sp.csr_array(np.ones((2, 2))), times=DAYS)
    with pytest.raises(error, match=message):
        ratings.decayed(half_life, **options)


def test_ratings_without_times_hold_nothing_of_them(tmp_path):
    ratings = mfcore.fetch("planted").ratings.select_users(range(50))
    bare = Ratings(ratings.by_user)
    assert bare.times is None
    assert bare.transposed.times is None
    bare.write(tmp_path / "folder")
    assert not list((tmp_path / "folder").glob("*times*"))
    assert '"times"' not in (tmp_path / "folder" / "header.json").read_text()


def test_a_data_set_of_a_file_has_its_times():
    data = mfcore.fetch("planted")
    np.testing.assert_array_equal(data.ratings.times, data.timestamps)
