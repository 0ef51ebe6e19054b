"""Files of arrays can be mapped while other threads parse."""

from __future__ import annotations

import numpy as np
import pytest

from mfcore.npy import TRIES, mapped


@pytest.fixture
def file(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6.).reshape(2, 3))
    return tmp_path / "a.npy"


def failing(times, monkeypatch):
    """Let the parser of NumPy fail some times, as CPython does when two threads parse."""
    true, left = np.lib.format.read_array_header_1_0, [times]

    def parse(*args, **options):
        left[0] -= 1
        if left[0] >= 0:
            raise SystemError("AST constructor recursion depth mismatch (before=69, after=66)")
        return true(*args, **options)

    monkeypatch.setattr(np.lib.format, "read_array_header_1_0", parse)


def test_a_header_that_two_threads_parsed_at_once_is_parsed_once_more(file, monkeypatch):
    failing(3, monkeypatch)
    array = mapped(file)
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, np.arange(6.).reshape(2, 3))


def test_an_interpreter_that_always_fails_is_no_endless_loop(file, monkeypatch):
    failing(TRIES, monkeypatch)
    with pytest.raises(SystemError, match="recursion depth"):
        mapped(file)


def test_an_array_without_elements_is_read(tmp_path):
    np.save(tmp_path / "a.npy", np.empty((0, 3), np.float32))
    assert mapped(tmp_path / "a.npy").shape == (0, 3)
