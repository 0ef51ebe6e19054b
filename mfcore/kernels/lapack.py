"""BLAS and LAPACK for small symmetric systems, called from inside compiled kernels.

SciPy's own routines are registered with LLVM by name, so that a compiled kernel on disk holds
a name and not an address, and a second process compiles nothing.  BLAS must be limited to one
thread (as `parallel.Pool` does) while kernels that use this run.

Matrices are C-ordered and symmetric: the upper triangle here is the lower triangle ('L') of
the column-major view that BLAS sees.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as ll
import numpy as np
import scipy.linalg
import scipy.linalg.cython_blas as cython_blas
import scipy.linalg.cython_lapack as cython_lapack
from numba import types
from numba.core import config
from numba.extending import get_cython_function_address, overload

from mfcore.compiled import njit
from mfcore.kernels.options import MELT

# The lengths and flags of a call are in one small integer array, so that kernels allocate it
# only once: [n, gathered, 1, info, "L", "N", "T"].
FLAGS = (0, 0, 1, 0, ord("L"), ord("N"), ord("T"))
GATHERED, INFO = 1, 3

_TYPES = {"s": types.float32, "d": types.float64}


def _external(module: Any, name: str, signature: str) -> types.ExternalFunction:
    """Register SciPy's `name`; letters of the signature: c char, i integer, x real."""
    if "int *" not in str(module.__pyx_capi__[name]):
        raise ImportError(f"SciPy's {name} does not take 32-bit integers")
    symbol = f"mfcore_{name}"
    ll.add_symbol(symbol, get_cython_function_address(module.__name__, name))
    kinds = {"c": types.char, "i": types.int32, "x": _TYPES[name[0]]}
    pointers = [types.CPointer(kinds[letter]) for letter in signature]
    return types.ExternalFunction(symbol, types.void(*pointers))


_syrk = {letter: _external(cython_blas, f"{letter}syrk", "cciixxixxi") for letter in _TYPES}
_posv = {letter: _external(cython_lapack, f"{letter}posv", "ciixixii") for letter in _TYPES}


def add_gram(A: np.ndarray, B: np.ndarray, scale: np.ndarray, flags: np.ndarray) -> None:
    """Set the upper triangle of A to scale[1] · A + scale[0] · BᵀB; scale is [sign, 1].

    A is (n, n), B is (at least flags[GATHERED], n).
    """
    rows, upper = B[:flags[GATHERED]], np.triu_indices(len(A))
    A[upper] = scale[1] * A[upper] + scale[0] * (rows.T @ rows)[upper]


def add_outer(A: np.ndarray, B: np.ndarray, scale: np.ndarray, flags: np.ndarray) -> None:
    """Set the upper triangle of A to scale[1] · A + scale[0] · BBᵀ.

    A is (n, n) for n = flags[0], B is (at least n, flags[GATHERED]).
    """
    rows, upper = B[:flags[0]], np.triu_indices(len(A))
    A[upper] = scale[1] * A[upper] + scale[0] * (rows @ rows.T)[upper]


def solve_spd(A: np.ndarray, c: np.ndarray, flags: np.ndarray) -> None:
    """Solve A x = c in place for symmetric positive definite A (upper triangle given).

    Writes x to c, U of A = UᵀU to the upper triangle of A, and 0 to flags[INFO], or the order
    of the minor that is not positive definite.
    """
    try:
        factor = scipy.linalg.cho_factor(np.triu(A), lower=False)     # (below: not given)
        c[:], A[:] = scipy.linalg.cho_solve(factor, c), factor[0]
        flags[INFO] = 0
    except (scipy.linalg.LinAlgError, ValueError):
        flags[INFO] = 1


@njit(**MELT)
def add_noise(c: np.ndarray, U: np.ndarray, e: np.ndarray, y: np.ndarray) -> None:
    """Add y = U⁻¹ e to c; only the upper triangle of U is read."""
    for i in range(c.size - 1, -1, -1):
        s = e[i]
        row, tail = U[i, i + 1:], y[i + 1:]
        for j in range(tail.size):
            s -= row[j] * tail[j]
        y[i] = s / U[i, i]
        c[i] += y[i]


if not config.DISABLE_JIT:
    @overload(add_gram, jit_options={"nogil": True})
    def _add_gram(A: Any, B: Any, scale: Any, flags: Any) -> Any:
        syrk = _syrk["s" if A.dtype == types.float32 else "d"]

        def call(A: Any, B: Any, scale: Any, flags: Any) -> None:
            syrk(flags[4:].view(np.int8).ctypes, flags[5:].view(np.int8).ctypes,
                 flags[0:].ctypes, flags[1:].ctypes, scale[0:].ctypes, B.ctypes,
                 flags[0:].ctypes, scale[1:].ctypes, A.ctypes, flags[0:].ctypes)

        return call

    @overload(add_outer, jit_options={"nogil": True})
    def _add_outer(A: Any, B: Any, scale: Any, flags: Any) -> Any:
        syrk = _syrk["s" if A.dtype == types.float32 else "d"]

        def call(A: Any, B: Any, scale: Any, flags: Any) -> None:
            syrk(flags[4:].view(np.int8).ctypes, flags[6:].view(np.int8).ctypes,
                 flags[0:].ctypes, flags[1:].ctypes, scale[0:].ctypes, B.ctypes,
                 flags[1:].ctypes, scale[1:].ctypes, A.ctypes, flags[0:].ctypes)

        return call

    @overload(solve_spd, jit_options={"nogil": True})
    def _solve_spd(A: Any, c: Any, flags: Any) -> Any:
        posv = _posv["s" if A.dtype == types.float32 else "d"]

        def call(A: Any, c: Any, flags: Any) -> None:
            posv(flags[4:].view(np.int8).ctypes, flags[0:].ctypes, flags[2:].ctypes,
                 A.ctypes, flags[0:].ctypes, c.ctypes, flags[0:].ctypes, flags[3:].ctypes)

        return call
