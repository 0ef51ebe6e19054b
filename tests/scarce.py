"""NumPy's memory, of which the n-th piece is refused, as where none is left.

    with scarce(7) as asked:                # the seventh array of the block raises MemoryError
        work()
    asked()                                 # how many pieces the block has asked for

The functions that NumPy takes the memory of arrays from are replaced (NEP 49), in this thread and
in those of our pools.  So an array is refused wherever it is made: here, by NumPy or by SciPy.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

from numba import carray, cfunc, types
from numba.extending import register_jitable

from mfcore import parallel

try:
    from numpy._core import _multiarray_umath as numpy_in_c
except ImportError:                                     # NumPy 1
    from numpy.core import _multiarray_umath as numpy_in_c

NAME = b"mem_handler"                       # of the capsule that holds a handler
SET_HANDLER = 304                           # the place of PyDataMem_SetHandler in NumPy's table
FOR_GOOD = 2**62
_counts = (ctypes.c_int64 * 3)()            # pieces asked for; the first refused; the next given


class Handler(ctypes.Structure):
    """PyDataMem_Handler of NumPy."""

    _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8),
                *((name, ctypes.c_void_p) for name in ("counts", "malloc", "calloc", "realloc",
                                                       "free"))]


@contextmanager
def scarce(n: int, *, for_good: bool = False) -> Iterator[Callable[[], int]]:
    """Refuse the n-th piece of memory from here on, from 1, and with `for_good` all after it."""
    set_handler, handler = _handler()
    before = set_handler(handler)

    def pool(n_threads: int, name: str) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(n_threads, name, initializer=set_handler, initargs=(handler,))

    with mock.patch.object(parallel, "ThreadPoolExecutor", pool):
        _counts[:] = 0, n, FOR_GOOD if for_good else n + 1
        try:
            yield lambda: _counts[0]
        finally:
            _counts[2] = 0
            set_handler(before)


def asked_for(work: Callable[[], Any]) -> int:
    """Return how many pieces of memory some work asks for."""
    with scarce(FOR_GOOD) as asked:
        work()
    return asked()


@cache
def _handler() -> tuple[Callable[[Any], Any], Any]:
    """Return NumPy's function that sets a handler, and a handler that counts and refuses."""
    new, pointer = ctypes.pythonapi.PyCapsule_New, ctypes.pythonapi.PyCapsule_GetPointer
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p,
                                                   ctypes.c_void_p]
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer(numpy_in_c._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[SET_HANDLER])
    _handler.kept = made = _functions()         # (memory taken by them lives on)
    handler = Handler(b"scarce", 1, ctypes.addressof(_counts), *(each.address for each in made))
    _handler.struct = handler
    return set_handler, new(ctypes.addressof(handler), NAME, None)


def _functions() -> list[Any]:
    """Compile malloc, calloc, realloc and free that take the address of the counts first."""
    counts, address, size = types.CPointer(types.int64), types.intp, types.uintp
    malloc = types.ExternalFunction("malloc", address(size))
    calloc = types.ExternalFunction("calloc", address(size, size))
    realloc = types.ExternalFunction("realloc", address(address, size))
    free = types.ExternalFunction("free", types.void(address))

    @register_jitable
    def is_refused(counts):
        asked = carray(counts, 3)
        asked[0] += 1
        return asked[1] <= asked[0] < asked[2]

    return [
        cfunc(address(counts, size))(lambda counts, n: 0 if is_refused(counts) else malloc(n)),
        cfunc(address(counts, size, size))(
            lambda counts, n, each: 0 if is_refused(counts) else calloc(n, each)),
        cfunc(address(counts, address, size))(
            lambda counts, block, n: 0 if is_refused(counts) else realloc(block, n)),
        cfunc(types.void(counts, address, size))(lambda counts, block, n: free(block))]
