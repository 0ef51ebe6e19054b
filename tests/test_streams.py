"""Models go to open streams and come back, also through those that cannot go back."""

from __future__ import annotations

import gzip
import io
import os
import threading
import zipfile

import pytest
import samples

import mfcore
from mfcore import MatrixFactorization
from mfcore.persistence import ModelFileError


@pytest.fixture(scope="module")
def model():
    return samples.small(MatrixFactorization).fit(samples.matrix())


@pytest.fixture(scope="module")
def written(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "model"
    model.save(path)
    return path.read_bytes()


class OneWay(io.RawIOBase):
    """A stream that cannot go back, as a socket."""

    def __init__(self, data=b""):
        self.inner = io.BytesIO(data)

    def readable(self):
        return True

    def writable(self):
        return True

    def readinto(self, buffer):
        return self.inner.readinto(buffer)

    def write(self, data):
        return self.inner.write(data)


def assert_is(found, model):
    assert (found.predict([0, 1], [2, 3]) == model.predict([0, 1], [2, 3])).all()


def test_a_stream_gets_the_bytes_of_a_file_and_stays_open(model, written, tmp_path):
    for stream in (io.BytesIO(), (tmp_path / "model").open("w+b"), OneWay()):
        model.save(stream)
        assert not stream.closed
        got = getattr(stream, "inner", stream)
        got.seek(0)
        assert got.read() == written
        stream.close()


def test_a_stream_is_read_from_where_it_is(model, written):
    stream = io.BytesIO()
    stream.write(b"what goes before")
    model.save(stream)
    stream.seek(16)
    assert stream.read() == written
    stream.seek(16)
    assert_is(mfcore.load(stream), model)
    assert not stream.closed
    rest = OneWay(b"before" + written)
    rest.read(6)
    assert_is(mfcore.load(rest), model)


def test_a_larger_model_of_before_leaves_nothing_behind(model, written):
    stream = io.BytesIO()
    model.save(stream)
    stream.seek(0)
    model.save(stream, seen=False)
    assert len(stream.getvalue()) < len(written)
    stream.seek(0)
    assert not mfcore.load(stream).has_seen_


def test_a_model_goes_through_a_pipe(model):
    reading, writing = os.pipe()

    def send():
        with open(writing, "wb") as stream:
            model.save(stream)

    thread = threading.Thread(target=send)
    thread.start()
    with open(reading, "rb") as stream:
        assert_is(mfcore.load(stream), model)
    thread.join()


def test_a_model_lies_in_what_is_compressed_or_packed(model, tmp_path):
    with gzip.open(tmp_path / "model.gz", "wb") as stream:
        model.save(stream)
    with gzip.open(tmp_path / "model.gz") as stream:
        assert_is(mfcore.load(stream), model)
    with zipfile.ZipFile(tmp_path / "models.zip", "w") as archive, \
            archive.open("model", "w") as stream:
        model.save(stream)
    with zipfile.ZipFile(tmp_path / "models.zip") as archive, archive.open("model") as stream:
        assert_is(mfcore.load(stream), model)


def test_nothing_is_written_of_a_model_that_cannot_be_saved():
    cells = mfcore.Ratings(samples.matrix(), user_ids=[(row,) for row in range(11)])
    stream = io.BytesIO()
    with pytest.raises(TypeError, match="stores integers and strings only"):
        samples.small(MatrixFactorization).fit(cells).save(stream)
    assert stream.getvalue() == b""


def closed():
    stream = io.BytesIO(b"x")
    stream.close()
    return stream


@pytest.mark.parametrize(("stream", "error", "message"), [
    (io.StringIO(), TypeError, "stream of text: open it with mode 'wb'"),
    (closed(), ValueError, "is not writable: it is closed"),
    (io.BufferedReader(io.BytesIO()), ValueError, "open for something else")])
def test_streams_that_take_no_bytes_are_refused(model, stream, error, message):
    with pytest.raises(error, match=message):
        model.save(stream)


@pytest.mark.parametrize(("stream", "error", "message"), [
    (io.StringIO("x"), TypeError, "stream of text: open it with mode 'rb'"),
    (closed(), ValueError, "is not readable: it is closed"),
    (io.BufferedWriter(io.BytesIO()), ValueError, "open for something else"),
    (io.BytesIO(), ValueError, r"nothing left to read in the stream \(BytesIO\): seek"),
    (OneWay(), ModelFileError, r"the stream \(OneWay\)"),
    (io.BytesIO(b"no model"), ModelFileError, r"cannot read the stream \(BytesIO\)")])
def test_streams_that_give_no_model_are_refused(stream, error, message):
    with pytest.raises(error, match=message):
        mfcore.load(stream)


def test_a_stream_at_its_end_says_how_to_go_back(model):
    stream = io.BytesIO()
    model.save(stream)
    with pytest.raises(ValueError, match=r"seek\(0\) goes back"):
        mfcore.load(stream)


def test_a_truncated_stream_is_refused(written):
    with pytest.raises(ModelFileError):
        mfcore.load(io.BytesIO(written[:-30]))
