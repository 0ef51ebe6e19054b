"""BLAS and LAPACK for small symmetric systems, called from inside compiled kernels.

SciPy's own routines are registered with LLVM by name, so that a compiled kernel on disk holds
a name and not an address, and a second process compiles nothing.  BLAS must be limited to one
thread (as `parallel.Pool` does) while kernels that use this run.

Matrices are C-ordered and symmetric: the upper triangle here is the lower triangle ('L') of
the column-major view that BLAS sees.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as ll
import numpy as np
import scipy.linalg
import scipy.linalg.cython_blas as cython_blas
import scipy.linalg.cython_lapack as cython_lapack
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import get_cython_function_address, lower_builtin, type_callable

from mfcore.compiled import njit
from mfcore.kernels.options import MELT

# The lengths and flags of a call are in one small integer array, so that kernels allocate it
# only once: [n, gathered, 1, info, "L", "N", "T"].
FLAGS = (0, 0, 1, 0, ord("L"), ord("N"), ord("T"))
GATHERED, INFO = 1, 3


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


# ------------------------------------------------------------- the same, in compiled kernels

def _registered(module: Any, name: str) -> str:
    """Register SciPy's routine with LLVM; return the name of the symbol."""
    if "int *" not in str(module.__pyx_capi__[name]):
        raise ImportError(f"SciPy's {name} does not take 32-bit integers")
    symbol = f"mfcore_{name}"
    ll.add_symbol(symbol, get_cython_function_address(module.__name__, name))
    return symbol


def _compile_as(function: Callable[..., None], module: Any, routine: str, typer: Callable[..., Any],
                *places: tuple[int, int]) -> None:
    """Let kernels call `function` as a routine of SciPy, on pointers into its contiguous arguments.

    places : for each argument of the routine, an argument of `function`, and an element of it
    """
    symbols = {kind: _registered(module, f"{letter}{routine}")
               for letter, kind in (("s", types.float32), ("d", types.float64))}

    @type_callable(function)
    def typed(context: Any) -> Callable[..., Any]:
        return typer

    @lower_builtin(function, *[types.Array] * (1 + max(place for place, _ in places)))
    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        data = [context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args, arguments, strict=True)]
        pointers = [builder.bitcast(builder.gep(data[place], [ir.IntType(64)(element)]), byte)
                    for place, element in places]
        builder.call(cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte] * len(pointers)),
            symbols[signature.args[0].dtype]), pointers)
        return context.get_dummy_value()


if not config.DISABLE_JIT:
    _n, _gathered, _one, _info, _L, _N, _T = [(3, place) for place in range(len(FLAGS))]
    _compile_as(add_gram, cython_blas, "syrk", lambda A, B, scale, flags: types.void,
                _L, _N, _n, _gathered, (2, 0), (1, 0), _n, (2, 1), (0, 0), _n)
    _compile_as(add_outer, cython_blas, "syrk", lambda A, B, scale, flags: types.void,
                _L, _T, _n, _gathered, (2, 0), (1, 0), _gathered, (2, 1), (0, 0), _n)
    _n, _gathered, _one, _info, _L, _N, _T = [(2, place) for place in range(len(FLAGS))]
    _compile_as(solve_spd, cython_lapack, "posv", lambda A, c, flags: types.void,
                _L, _n, _one, (0, 0), _n, (1, 0), _n, _info)
