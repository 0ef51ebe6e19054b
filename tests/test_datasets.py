"""`fetch`: every published format, every place, and downloads that break."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import os
import stat
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mfcore import Ratings, fetch
from mfcore.data import archive, datasets, download
from mfcore.data.dataset import Dataset

FLAGS = "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"      # Animation, Children's, Comedy
RATED = [(2, 7, 3, 900), (1, 5, 4, 800), (2, 5, 1, 700)]
CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n2,7,3.0,900\n1,5,4.0,800\n2,5,1.0,700\n",
    "movies.csv": 'movieId,title,genres\n5,"Story, The (1995)",Animation|Comedy\n'
                  "7,GoldenEye (1995),(no genres listed)\n9,Unrated (1990),Drama\n",
    "tags.csv": "userId,movieId,tag,timestamp\n"}
DAT = {
    "ratings.dat": "".join("::".join(map(str, row)) + "\n" for row in RATED),
    "movies.dat": "5::Amélie (2001)::Animation|Comedy\n7::GoldenEye (1995)::\n"}
PUBLISHED: dict[str, dict[str, str | bytes]] = {
    "ml-100k": {
        "u.data": "".join("\t".join(map(str, row)) + "\n" for row in RATED),
        "u.user": "1|24|M|technician|85711\n2|17|F|other|T8H1N\n",
        "u.item": f"5|Amélie (1995)|01-Jan-1995||http://x/?T|{FLAGS}\n"
                  f"7|unknown||||1{FLAGS[1:].replace('1', '0')}\n".encode("latin-1")},
    "ml-1m": {**DAT, "movies.dat": DAT["movies.dat"].encode("latin-1"),
              "users.dat": "1::M::56::16::70072\n2::F::1::10::48067\n"},
    "ml-10m": {**DAT}, "movietweetings-10k": {**DAT}, "movietweetings-100k": {**DAT},
    "ml-20m": {**CSV}, "ml-25m": {**CSV}, "ml-latest-small": {**CSV}}
RECBOLE: dict[str, str | bytes] = {
    "ml-100k.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
                     + str(PUBLISHED["ml-100k"]["u.data"]),
    "ml-100k.user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
                    "1\t24\tM\ttechnician\t85711\n2\t17\tF\tother\tT8H1N\n",
    "ml-100k.item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
                    "5\tAmélie\t1995\tAnimation Children's Comedy\n"
                    "7\tunkonwn\tunkonwn\tunknown\n"}
RETAIL: dict[str, str | bytes] = {
    "online_retail_pairs.csv": "CustomerID,StockCode,quantity,invoices\n12347,85123A,12.0,2\n"
                               "12346,10002,74215.0,1\n12347,10002,-3.0,1\n",
    "customer_country.csv": "CustomerID,Country\n12346.0,United Kingdom\n12347.0,Iceland\n",
    "item_description.csv": 'StockCode,Description\n10002,"WRAP, CAROUSEL"\n'}


def encoded(members: dict[str, str | bytes]) -> dict[str, bytes]:
    return {name: text.encode() if isinstance(text, str) else text
            for name, text in members.items()}


def zipped(members: dict[str, str | bytes], top: str = "any/") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in encoded(members).items():
            out.writestr(top + name, data)
    return stream.getvalue()


def as_folder(place: Path, name: str, members: dict[str, str | bytes]) -> None:
    (place / name).mkdir(parents=True)
    for member, data in encoded(members).items():
        (place / name / member).write_bytes(data)


def as_zip(place: Path, name: str, members: dict[str, str | bytes]) -> None:
    (place / f"{name}.zip").write_bytes(zipped(members, f"{name}/"))


def as_gzipped_folder(place: Path, name: str, members: dict[str, str | bytes]) -> None:
    as_folder(place, name, {f"{member}.gz": gzip.compress(data)
                            for member, data in encoded(members).items()})


def as_nested_folder(place: Path, name: str, members: dict[str, str | bytes]) -> None:
    as_folder(place, f"{name}/{name}", members)


FORMS = [as_folder, as_zip, as_gzipped_folder, as_nested_folder]


@pytest.fixture(autouse=True)
def elsewhere(request, tmp_path, monkeypatch) -> None:
    """Keep the tests off the user's own data, cache and network."""
    if "real_data" in request.fixturenames:
        return
    monkeypatch.delenv("MFCORE_DATA", raising=False)
    monkeypatch.setenv("MFCORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MFCORE_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.setattr(download, "_pip_download", no_pip)


@pytest.fixture
def real_data() -> None:
    """Skip where the folder of open data sets is absent."""
    if not os.environ.get("MFCORE_DATA"):
        pytest.skip("MFCORE_DATA is not set")


def no_pip(requirement: str, folder: Path) -> Path:
    raise ConnectionError(f"pip could not fetch {requirement}: no index")


def names_of(data: Dataset, side: str, row: int) -> list[str]:
    features = getattr(data, f"{side}_features")
    return [features.names[c] for c in features.matrix[[row]].indices]


# ------------------------------------------------------------------------------- formats


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_format_is_read(tmp_path, name, form) -> None:
    form(tmp_path, name, PUBLISHED[name])
    data = fetch(name, data_dir=tmp_path)
    assert data.ratings.user_ids is not None
    assert data.ratings.item_ids is not None
    assert data.timestamps is not None
    assert data.file_order is not None
    assert data.item_titles is not None
    assert data.ratings.user_ids.tolist() == [1, 2]
    assert data.ratings.item_ids.tolist() == [5, 7]
    assert data.ratings.by_user.toarray().tolist() == [[4, 0], [1, 3]]
    assert data.timestamps.tolist() == [800, 700, 900]
    assert data.file_order.tolist() == [1, 2, 0]
    assert data.item_titles[0] in ("Amélie (1995)", "Amélie (2001)", "Story, The (1995)")
    assert {"genre=Animation", "genre=Comedy"} <= set(names_of(data, "item", 0))
    assert names_of(data, "item", 1) == []
    assert data.licence


def test_ml_100k_describes_its_users(tmp_path) -> None:
    as_zip(tmp_path, "ml-100k", PUBLISHED["ml-100k"])
    data = fetch("ml-100k", data_dir=tmp_path)
    assert names_of(data, "user", 0) == ["age=18-24", "gender=M", "occupation=technician"]
    assert names_of(data, "user", 1) == ["age=under 18", "gender=F", "occupation=other"]


def test_ml_1m_describes_its_users_in_the_same_bands(tmp_path) -> None:
    as_folder(tmp_path, "ml-1m", PUBLISHED["ml-1m"])
    data = fetch("ml-1m", data_dir=tmp_path)
    assert names_of(data, "user", 0) == ["age=56+", "gender=M", "occupation=self-employed"]
    assert names_of(data, "user", 1) == ["age=under 18", "gender=F", "occupation=K-12 student"]


def test_both_forms_of_ml_100k_give_the_same(tmp_path) -> None:
    as_folder(tmp_path / "original", "ml-100k", PUBLISHED["ml-100k"])
    as_folder(tmp_path / "wheel", "ml-100k", RECBOLE)
    one, other = (fetch("ml-100k", data_dir=tmp_path / each) for each in ("original", "wheel"))
    assert (one.ratings.by_user != other.ratings.by_user).nnz == 0
    for field in ("timestamps", "file_order", "item_titles"):
        assert getattr(one, field).tolist() == getattr(other, field).tolist()
    for side in ("user", "item"):
        assert [names_of(one, side, row) for row in (0, 1)] == \
            [names_of(other, side, row) for row in (0, 1)]


def test_grouplens_own_folder_name_of_ml_10m_is_known(tmp_path) -> None:
    as_folder(tmp_path, "ml-10M100K", PUBLISHED["ml-10m"])
    assert fetch("ml-10m", data_dir=tmp_path).ratings.shape == (2, 2)


@pytest.mark.parametrize("form", FORMS)
def test_online_retail_counts_invoices(tmp_path, form) -> None:
    form(tmp_path, "online-retail", RETAIL)
    data = fetch("online-retail", data_dir=tmp_path)
    assert data.item_titles is not None
    assert data.ratings.item_ids is not None
    assert data.ratings.item_ids.tolist() == ["10002", "85123A"]
    assert data.ratings.by_user.toarray().tolist() == [[1, 0], [1, 2]]
    assert data.item_titles.tolist() == ["WRAP, CAROUSEL", ""]
    assert names_of(data, "user", 1) == ["country=Iceland"]
    assert data.timestamps is None


def test_online_retail_with_numeric_codes_alone_keeps_its_titles(tmp_path) -> None:
    pairs = "CustomerID,StockCode,quantity,invoices\n12346,10002,1.0,1\n12347,10002,1.0,1\n"
    as_folder(tmp_path, "online-retail", {**RETAIL, "online_retail_pairs.csv": pairs})
    titles = fetch("online-retail", data_dir=tmp_path).item_titles
    assert titles is not None
    assert titles.tolist() == ["WRAP, CAROUSEL"]


def test_a_film_that_the_catalogue_lacks_has_no_title(tmp_path) -> None:
    as_folder(tmp_path, "ml-20m", {**CSV, "movies.csv": "movieId,title,genres\n5,A,Drama\n"})
    titles = fetch("ml-20m", data_dir=tmp_path).item_titles
    assert titles is not None
    assert titles.tolist() == ["A", ""]


@pytest.mark.parametrize(("name", "member", "text", "message"), [
    ("ml-20m", "movies.csv", "movieId,title,genres\n5,A\n", "ml-20m/movies.csv, line 2 is not"),
    ("ml-20m", "movies.csv", "movieId,title,genres\nx,A,B\n", "movies.csv, line 2 is not as"),
    ("ml-100k", "u.user", "1|old|M|other|1\n", "u.user, line 1 is not as published"),
    ("ml-100k", "u.user", "1|24|M|other|1\n", "table of users lacks 1 of .* such as 2"),
    ("ml-1m", "ratings.dat", "1::5::four::800\n", "line 1: expected a number in column 3")])
def test_a_member_that_is_not_as_published_is_named(tmp_path, name, member, text, message) -> None:
    as_folder(tmp_path, name, {**PUBLISHED[name], member: text})
    with pytest.raises(ValueError, match=message):
        fetch(name, data_dir=tmp_path)


def test_the_file_nearest_to_the_top_of_a_zip_is_read(tmp_path) -> None:
    old = {f"old/{name}": "spoilt" for name in CSV}
    for name, members in (("first", {**CSV, **old}), ("last", {**old, **CSV})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ml-20m.zip").write_bytes(zipped(members))
        assert fetch("ml-20m", data_dir=tmp_path / name).ratings.nnz == 3


# -------------------------------------------------------------------------------- places


def test_generated_data_need_no_place(monkeypatch) -> None:
    monkeypatch.setenv("MFCORE_DATA", "/nowhere/at/all")
    assert fetch("planted").ratings.nnz > 0
    groups = fetch("planted-audiences").user_groups
    assert groups is not None
    assert len(set(groups.tolist())) > 1


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="name must be one of 'planted', .* got 'ml-2m'"):
        fetch("ml-2m")


def test_mfcore_data_comes_before_the_cache(tmp_path, monkeypatch) -> None:
    as_folder(tmp_path / "data", "ml-20m", {**CSV})
    one = "userId,movieId,rating,timestamp\n1,5,2.0,3\n"
    as_folder(tmp_path / "cache", "ml-20m", {**CSV, "ratings.csv": one})
    assert fetch("ml-20m").ratings.nnz == 1
    monkeypatch.setenv("MFCORE_DATA", str(tmp_path / "data"))
    assert fetch("ml-20m").ratings.nnz == 3


def test_a_wrong_mfcore_data_is_named(monkeypatch) -> None:
    monkeypatch.setenv("MFCORE_DATA", "/nowhere/at/all")
    with pytest.raises(FileNotFoundError, match="MFCORE_DATA names /nowhere/at/all"):
        fetch("ml-100k")


def test_a_folder_without_the_ratings_is_named(tmp_path) -> None:
    (tmp_path / "ml-100k").mkdir()
    with pytest.raises(FileNotFoundError, match=r"ml-100k holds no u.data or ml-100k.inter"):
        fetch("ml-100k", data_dir=tmp_path)


def test_an_incomplete_folder_names_what_is_missing(tmp_path) -> None:
    as_folder(tmp_path, "ml-20m", {"ratings.csv": CSV["ratings.csv"]})
    with pytest.raises(FileNotFoundError, match=r"ml-20m holds no movies.csv"):
        fetch("ml-20m", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["online-retail", "movietweetings-10k"])
def test_what_cannot_be_downloaded_says_where_to_put_it(name) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{name}/ with .*MFCORE_DATA.*'planted'"):
        fetch(name)


@pytest.mark.parametrize(("platform", "variables", "folder"), [
    ("linux", {"MFCORE_CACHE": "/m"}, "/m"),
    ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/mfcore"),
    ("linux", {"HOME": "/h"}, "/h/.cache/mfcore"),
    ("darwin", {"HOME": "/h"}, "/h/Library/Caches/mfcore"),
    ("win32", {"LOCALAPPDATA": "/l"}, "/l/mfcore")])
def test_the_cache_stands_where_the_system_keeps_caches(monkeypatch, platform, variables,
                                                        folder) -> None:
    for name in ("MFCORE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.platform", platform)
    assert datasets.cache_dir() == Path(folder)


# ----------------------------------------------------------------------- hostile archives


def test_paths_inside_a_zip_are_never_followed(tmp_path) -> None:
    place = tmp_path / "deep" / "data"
    place.mkdir(parents=True)
    stream = zipped({**CSV}, "../../evil/")
    (place / "ml-20m.zip").write_bytes(stream)
    fetch("ml-20m", data_dir=place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "deep", "ml-20m.zip"]


def test_a_link_inside_a_zip_is_refused(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "ml-20m.zip", "w") as out:
        link = zipfile.ZipInfo("ratings.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        out.writestr(link, "/etc/passwd")
        out.writestr("movies.csv", CSV["movies.csv"])
    with pytest.raises(ValueError, match=r"ratings.csv is a link"):
        fetch("ml-20m", data_dir=tmp_path)


def test_a_zip_bomb_is_refused_before_it_unpacks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    as_zip(tmp_path, "ml-20m", {**CSV, "ratings.csv": "0" * 1001})
    with pytest.raises(ValueError, match="would unpack to 1,001 bytes"):
        fetch("ml-20m", data_dir=tmp_path)


@pytest.mark.parametrize("spoil", [lambda data: data[:-30], lambda data: b"no zip at all",
                                   lambda data: data[:60] + b"\xff" * 20 + data[80:]])
def test_a_damaged_zip_is_refused(tmp_path, spoil) -> None:
    (tmp_path / "ml-20m.zip").write_bytes(spoil(zipped({**CSV})))
    with pytest.raises(ValueError, match="get it again"):
        fetch("ml-20m", data_dir=tmp_path)


def test_an_encrypted_zip_is_refused(tmp_path) -> None:
    data = bytearray(zipped({**CSV}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + place] |= 1
            start = data.find(mark, start + 4)
    (tmp_path / "ml-20m.zip").write_bytes(data)
    with pytest.raises(ValueError, match="encrypted"):
        fetch("ml-20m", data_dir=tmp_path)


def test_a_truncated_gzip_member_is_refused(tmp_path) -> None:
    as_gzipped_folder(tmp_path, "ml-20m", {**CSV})
    path = tmp_path / "ml-20m" / "ratings.csv.gz"
    path.write_bytes(path.read_bytes()[:-6])
    with pytest.raises(ValueError, match=r"ratings.csv is a damaged or truncated gzip"):
        fetch("ml-20m", data_dir=tmp_path)


# ------------------------------------------------------------------------------ downloads


class Server(ThreadingHTTPServer):
    """Serves one file; `breaks` is how many answers stop halfway."""

    content = b""
    breaks = 0
    ranges = True
    chunked = False
    status = 200
    length: str | None = None           # what it announces, if not the true length
    size: bytes | None = None           # the same of a chunk

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        start = int(asked[6:-1]) if asked and server.ranges else 0
        self.send_response(206 if start else server.status)
        if start:
            whole = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        rest = server.content[start:]
        self.send_header(*(("Transfer-Encoding", "chunked") if server.chunked else
                           ("Content-Length", server.length or str(len(rest)))))
        self.end_headers()
        if server.breaks > 0:
            server.breaks -= 1
            rest = rest[:len(rest) // 2]
            self.wfile.write(b"fff\r\n" * server.chunked + rest)
        else:
            size = server.size or b"%x" % len(rest)
            self.wfile.write(b"%b\r\n%b\r\n0\r\n\r\n" % (size, rest) if server.chunked
                             else rest)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    """Stand in for GroupLens with a small ml-20m."""
    with serving(Server()) as running:
        running.content = zipped({**CSV, "noise.bin": os.urandom(5000)}, "ml-20m/")
        digest = f"md5:{hashlib.md5(running.content).hexdigest()}"
        for name in ("ml-20m", "ml-100k"):
            source = dataclasses.replace(datasets.SOURCES[name], digest=digest)
            monkeypatch.setitem(datasets.SOURCES, name, source)
        monkeypatch.setenv("MFCORE_MIRROR", f"http://127.0.0.1:{running.server_port}")
        yield running


def cached(tmp_path: Path) -> list[str]:
    return sorted(str(path.relative_to(tmp_path / "cache"))
                  for path in (tmp_path / "cache").rglob("*") if path.is_file())


def test_a_download_happens_once(tmp_path, server) -> None:
    assert fetch("ml-20m", progress=False).ratings.nnz == 3
    assert fetch("ml-20m", progress=False).ratings.nnz == 3
    assert server.asked == [None]
    assert cached(tmp_path) == ["ml-20m.zip"]


def test_a_download_goes_to_data_dir_where_given(tmp_path, server) -> None:
    fetch("ml-20m", data_dir=tmp_path / "here", progress=False)
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["ml-20m.zip"]


def test_the_progress_bar_shows_only_when_asked(server, tmp_path, capfd) -> None:
    fetch("ml-20m", progress=False)
    assert capfd.readouterr() == ("", "")
    fetch("ml-20m", data_dir=tmp_path)
    assert "ml-20m.zip" in capfd.readouterr().err


def test_another_checksum_is_refused_and_nothing_kept(tmp_path, server) -> None:
    server.content = server.content[:-1] + b"!"
    with pytest.raises(ValueError, match="expected .*; nothing was kept; put the folder"):
        fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []


@pytest.mark.parametrize(("ranges", "second"), [(True, "bytes="), (False, "bytes=")])
def test_a_broken_download_is_taken_up_again(tmp_path, server, ranges, second) -> None:
    server.breaks, server.ranges = 2, ranges
    assert fetch("ml-20m", progress=False).ratings.nnz == 3
    assert server.asked[0] is None
    assert [str(each)[:6] for each in server.asked[1:]] == [second, second]
    assert cached(tmp_path) == ["ml-20m.zip"]


def test_a_download_of_unknown_size_that_breaks_is_tried_again(tmp_path, server) -> None:
    server.breaks, server.chunked = 1, True
    assert fetch("ml-20m", progress=False).ratings.nnz == 3
    server.breaks = 99
    with pytest.raises(ConnectionError, match=r"broke off at [\d,]+ bytes"):
        fetch("ml-20m", data_dir=tmp_path / "other", progress=False)


def test_a_download_that_breaks_again_and_again_leaves_nothing(tmp_path, server) -> None:
    server.breaks, server.ranges = 99, False
    with pytest.raises(ConnectionError, match=r"broke off at [\d,]+ of [\d,]+ bytes"):
        fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []
    server.breaks = 0
    assert fetch("ml-20m", progress=False).ratings.nnz == 3


def test_an_interrupted_download_leaves_nothing(tmp_path, server, monkeypatch) -> None:
    def interrupted(*_: object) -> None:
        assert len(list((tmp_path / "cache").glob("*.part"))) == 2      # lock and piece
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "_check", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []
    assert fetch("ml-20m", progress=False).ratings.nnz == 3


def test_an_answer_of_404_is_named(server) -> None:
    server.status, server.content = 404, b"gone"
    with pytest.raises(ConnectionError, match=r"ml-20m.zip answered 404 .*put the folder ml-20m/"):
        fetch("ml-20m", progress=False)


def test_a_server_out_of_reach_is_named(tmp_path) -> None:
    with pytest.raises(ConnectionError, match=r"127.0.0.1:9/ml-20m.zip cannot be reached"):
        fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []


@pytest.mark.parametrize("length", ["many", "-5", "1e3", "0x10", "1,2", "\xb2", "9" * 40, " "])
def test_a_length_that_is_no_number_is_named(tmp_path, server, length) -> None:
    server.length = length
    with pytest.raises(ConnectionError, match=r"announces .* bytes \(Content-Length\), which"):
        fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []


def test_a_chunk_of_less_than_no_bytes_is_a_download_that_breaks(tmp_path, server) -> None:
    server.chunked, server.size = True, b"-5"
    with pytest.raises(ConnectionError, match="broke off at"):
        fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []


@pytest.mark.parametrize(("length", "message"), [("1", "expected md5|arrived with md5"),
                                                 ("100000", "broke off at")])
def test_a_wrong_length_is_refused_and_nothing_kept(tmp_path, server, length, message) -> None:
    server.length = length
    with pytest.raises((ConnectionError, ValueError), match=message):
        fetch("ml-20m", progress=False)
    assert cached(tmp_path) == []


def test_a_server_that_does_not_speak_http_is_named(tmp_path, monkeypatch) -> None:
    class Babble(BaseHTTPRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(b"220 mail.example.org ESMTP\r\n")

    with ThreadingHTTPServer(("127.0.0.1", 0), Babble) as babble:
        threading.Thread(target=babble.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MFCORE_MIRROR", f"http://127.0.0.1:{babble.server_port}/")
        with pytest.raises(ConnectionError, match=r"does not speak HTTP \(BadStatusLine"):
            fetch("ml-20m", progress=False)
        babble.shutdown()
    assert cached(tmp_path) == []


@pytest.mark.parametrize("address", ["mirror", "http://a b/", "http://[::1/", "http://a:port/"])
def test_an_address_that_no_server_can_have_is_named(monkeypatch, address) -> None:
    monkeypatch.setenv("MFCORE_MIRROR", address)
    with pytest.raises(ConnectionError, match=r"ml-20m\.zip cannot be reached"):
        fetch("ml-20m", progress=False)


def test_a_fetch_removes_what_a_killed_download_has_left(tmp_path) -> None:
    as_zip(tmp_path, "ml-20m", PUBLISHED["ml-20m"])
    (tmp_path / ".mfcore-0123456789abcdef.part").write_bytes(b"half")
    assert fetch("ml-20m", data_dir=tmp_path).ratings.nnz == 3
    assert [path.name for path in tmp_path.iterdir()] == ["ml-20m.zip"]


def test_two_threads_may_download_at_once(tmp_path, server) -> None:
    sizes: list[int] = []
    threads = [threading.Thread(target=lambda: sizes.append(
        fetch("ml-20m", progress=False).ratings.nnz)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [3] * 4
    assert len(server.asked) == 1           # the others take what the first brought
    assert cached(tmp_path) == ["ml-20m.zip"]


# ------------------------------------------------------------- ml-100k through a wheel


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> list[str]:
    """Let pip deliver a small wheel; gives the list of what was asked for."""
    asked: list[str] = []

    def pip(requirement: str, folder: Path) -> Path:
        asked.append(requirement)
        path = folder / "recbole.whl"
        path.write_bytes(zipped(RECBOLE, "recbole/dataset_example/ml-100k/"))
        return path

    monkeypatch.setattr(download, "_pip_download", pip)
    monkeypatch.setattr(datasets, "WHEEL_FILES", {
        name: f"sha256:{hashlib.sha256(data).hexdigest()}"
        for name, data in encoded(RECBOLE).items()})
    return asked


def test_ml_100k_comes_from_the_wheel_where_grouplens_is_out_of_reach(tmp_path, wheel) -> None:
    assert fetch("ml-100k", progress=False).ratings.nnz == 3
    assert fetch("ml-100k", progress=False).ratings.nnz == 3
    assert wheel == [datasets.WHEEL]
    assert cached(tmp_path) == [f"ml-100k/{name}" for name in sorted(RECBOLE)]


def test_the_wheel_stays_alone_where_grouplens_answers(server, wheel) -> None:
    server.content = zipped(PUBLISHED["ml-100k"])
    digest = f"md5:{hashlib.md5(server.content).hexdigest()}"
    datasets.SOURCES["ml-100k"] = dataclasses.replace(datasets.SOURCES["ml-100k"], digest=digest)
    assert fetch("ml-100k", progress=False).ratings.nnz == 3
    assert wheel == []


def test_an_altered_wheel_is_refused_and_nothing_kept(tmp_path, wheel, monkeypatch) -> None:
    monkeypatch.setitem(datasets.WHEEL_FILES, "ml-100k.user", "sha256:00")
    with pytest.raises(ValueError, match=r"cannot be reached.*ml-100k.user arrived with sha256"):
        fetch("ml-100k", progress=False)
    assert cached(tmp_path) == []


def test_the_process_that_takes_the_wheel_second_uses_what_the_first_left(
        tmp_path, wheel, monkeypatch) -> None:
    deliver = download._pip_download

    def late(requirement: str, folder: Path) -> Path:
        as_folder(tmp_path / "cache", "ml-100k", RECBOLE)
        return deliver(requirement, folder)

    monkeypatch.setattr(download, "_pip_download", late)
    assert fetch("ml-100k", progress=False).ratings.nnz == 3
    assert cached(tmp_path) == [f"ml-100k/{name}" for name in sorted(RECBOLE)]


def test_a_file_in_the_way_of_the_wheel_is_not_overwritten(tmp_path, wheel) -> None:
    (tmp_path / "ml-100k").write_text("mine")
    with pytest.raises(OSError, match="ml-100k"):
        download.from_wheel("x==1", datasets.WHEEL_FILES, tmp_path / "ml-100k")
    assert (tmp_path / "ml-100k").read_text() == "mine"
    assert not list(tmp_path.glob("*.part"))


def test_both_failures_are_told_when_nothing_can_be_reached(tmp_path) -> None:
    with pytest.raises(ConnectionError, match=r"ml-100k.zip cannot be reached: .*; then pip could "
                                              r"not fetch recbole.*MFCORE_DATA.*'planted'"):
        fetch("ml-100k", progress=False)
    assert cached(tmp_path) == []


@pytest.mark.parametrize(("outcome", "message"), [
    (subprocess.CompletedProcess([], 1, "", "trace\npython: No module named pip\n\n"),
     "could not fetch x==1: python: No module named pip"),
    (subprocess.CompletedProcess([], 1, "", ""), "no reason given"),
    (subprocess.CompletedProcess([], 0, "", ""), "could not fetch x==1"),
    (subprocess.TimeoutExpired("pip", 300), "pip could not run"),
    (FileNotFoundError("python"), "pip could not run")])
def test_a_missing_or_failing_pip_is_a_connection_error(tmp_path, monkeypatch, outcome,
                                                        message) -> None:
    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(ConnectionError, match=message):
        download._pip_download("x==1", tmp_path)


def test_pip_delivers_the_wheel_it_was_asked_for(tmp_path, monkeypatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:4] == ["-m", "pip", "download"]
        assert command[-1] == "x==1"
        (Path(command[command.index("--dest") + 1]) / "x.whl").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "run", run)
    assert download._pip_download("x==1", tmp_path) == tmp_path / "x.whl"


# -------------------------------------------------------------------------------- dataset


@pytest.mark.parametrize(("part", "length"), [("timestamps", 3), ("file_order", 1),
                                              ("user_groups", 3), ("item_groups", 3),
                                              ("item_titles", 1)])
def test_a_dataset_refuses_parts_of_another_length(part, length) -> None:
    ratings = Ratings.from_arrays([0, 1], [0, 1])
    with pytest.raises(ValueError, match=rf"{part} must have shape \(2,\), got \({length},\)"):
        Dataset(ratings, **{part: np.zeros(length, np.int64)})


@pytest.mark.parametrize("part", ["user_features", "item_features"])
def test_a_dataset_refuses_features_of_other_rows(part) -> None:
    from mfcore.data.features import one_hot

    with pytest.raises(ValueError, match=f"{part} must have 2 rows, got 3"):
        Dataset(Ratings.from_arrays([0, 1], [0, 1]), **{part: one_hot("abc")})


# ---------------------------------------------------------------------------- real data


def test_the_first_fold_of_ml_100k_is_the_published_u1_test(ml100k) -> None:
    cells = ml100k.ratings.by_user.tocoo()
    fold = np.flatnonzero(ml100k.file_order < 20_000)
    users, items = (ids[rows[fold]] for ids, rows in zip(
        (ml100k.ratings.user_ids, ml100k.ratings.item_ids), (cells.row, cells.col), strict=True))
    lines = "".join(f"{u}\t{i}\t{r:.0f}\t{t}\n" for u, i, r, t in zip(
        users, items, cells.data[fold], ml100k.timestamps[fold], strict=True))
    assert hashlib.md5(lines.encode()).hexdigest() == "62d5d837e7c8e36550cc956b09c2ecc8"


def test_ml_100k_is_whole(ml100k) -> None:
    assert ml100k.ratings.shape == (943, 1682)
    assert ml100k.ratings.nnz == 100_000
    assert ml100k.item_titles[0] == "Toy Story (1995)"
    assert ml100k.user_features.shape == (943, 7 + 2 + 21)
    assert ml100k.item_features.shape == (1682, 18)


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize(("name", "shape", "nnz"), [
    ("movietweetings-10k", (3794, 3096), 10_000),
    ("movietweetings-100k", (16_554, 10_506), 100_000),
    ("online-retail", (4339, 3665), 266_802)])
def test_the_open_data_sets_are_read_whole(name, shape, nnz) -> None:
    data = fetch(name)
    assert data.ratings.shape == shape
    assert data.ratings.nnz == nnz
    assert data.item_titles is not None
    assert all(data.item_titles)


def test_a_data_set_shows_what_it_holds_and_no_numbers(planted):
    assert repr(planted) == (f"PlantedDataset({planted.ratings!r}, timestamps, user_features, "
                             "item_features, item_titles, user_groups, item_groups, file_order)")
    assert repr(Dataset(planted.ratings)) == f"Dataset({planted.ratings!r})"
