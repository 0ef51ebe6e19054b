"""Small symmetric positive definite systems, one at a time, in vector registers throughout.

    add_products   out = A + sign · BᵀB, of n rows of B
    solve_small    A = UᵀU, which takes the place of A, and UᵀU x = c

BLAS and LAPACK are made for large matrices: for 64 unknowns they get 5 to 30 % of what a processor
can do.  Here both are written in the language of LLVM, for blocks of as many rows as a vector has
lanes.  Of matrices, the upper triangle counts; the blocks on the diagonal are computed whole, and
what is below the diagonal in them means nothing.  With J the rows of a block, and A_J less the
products of the rows of U above them (the same products as of B, whose sums stay in registers),

    U_JJᵀ U_JJ = A_JJ    by elimination,        U_J,rest = U_JJ⁻ᵀ A_J,rest    likewise.

Source: Golub, Van Loan 2013, section 4.2 (Cholesky's factor by blocks).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from mfcore.compiled import njit
from mfcore.kernels.code import BYTES, WIDE, Code, typed
from mfcore.kernels.gathered import ask
from mfcore.kernels.options import MELT

AHEAD = 16                                    # rows between asking for one and reading it
ROWS, VECTORS = (8 if WIDE else 4), 3         # of sums that are in registers at a time
_long, _int = ir.IntType(64), ir.IntType(32)


@njit(**MELT)
def lanes(A: np.ndarray) -> int:
    """Return how many numbers of an array a vector holds."""
    return BYTES // A.itemsize


def widened(A: np.ndarray) -> np.ndarray:
    """Return A with further unknowns, without cells, up to a whole number of vectors."""
    d, n_lanes = len(A), BYTES // A.itemsize
    wide = np.eye(-(-d // n_lanes) * n_lanes, dtype=A.dtype)
    wide[:d, :d] = A
    return wide


@njit(**MELT)
def add_products(out: np.ndarray, A: np.ndarray, B: np.ndarray, n: int, sign: float) -> None:
    """Set `out`, which may be A, to A + sign · BᵀB, of the first n rows of B, in panels."""
    products(out, A, B, n, sign, 0, A.shape[1])


@njit(**MELT)
def factorise(A: np.ndarray, inverse: np.ndarray) -> bool:
    """Write U of A = UᵀU to A, and 1 / diag U to `inverse`; tell whether A is positive definite."""
    for first in range(0, inverse.size, lanes(A)):
        products(A, A, A, first, -1.0, first, first + lanes(A))
        if not eliminated(A, inverse, first):
            return False
    return True


@njit(**MELT)
def solve_factored(U: np.ndarray, inverse: np.ndarray, c: np.ndarray) -> None:
    """Solve UᵀU x = c in place."""
    for first in range(0, c.size, lanes(U)):
        solved_above(U, inverse, c, first)
    for first in range(c.size - lanes(U), -1, -lanes(U)):
        solved_below(U, inverse, c, first)


# ------------------------------------------------------------------ where nothing is compiled


def _gathered(B: np.ndarray, Q: np.ndarray, indices: np.ndarray, start: int, stop: int, last: int,
              root: np.ndarray, target: np.ndarray, c: np.ndarray, has_one: bool) -> None:
    """Set rows of B to root · [q | 1] of those that indices start..stop name, or root · q.

    Adds Σ target · [q | 1] to c.  Rows of indices before `last` may be asked for.
    """
    n, k = stop - start, Q.shape[1]
    rows = np.zeros((n, c.size), c.dtype)
    rows[:, :k] = Q[indices[start:stop]]
    if has_one:
        rows[:, k] = 1
    c += target[:n] @ rows
    B[:, :n] = (root[:n, None] * rows).reshape(n, *B.shape[::2]).transpose(1, 0, 2)


def _products(out: np.ndarray, A: np.ndarray, B: np.ndarray, n: int, sign: float, first: int,
              last: int) -> None:
    """Set rows first..last of `out` to those of A + sign · BᵀB, of the first n rows of B."""
    whole = B if B.ndim == 2 else np.concatenate(list(B), axis=1)
    left, right = whole[:n, first:last], whole[:n, first:]
    out[first:last, first:] = A[first:last, first:] + sign * (left.T @ right)


def _square(A: np.ndarray, base: np.ndarray, z: np.ndarray) -> float:
    """Return zᵀ(A − base) z."""
    upper = np.triu(A - base)
    return float(z @ (upper + np.triu(upper, 1).T) @ z)


def _eliminated(A: np.ndarray, inverse: np.ndarray, first: int) -> bool:
    """Turn a block of rows, less products of those above, into rows of U; tell whether it can."""
    rows = slice(first, first + BYTES // A.itemsize)
    block = np.triu(A[rows, rows])
    try:
        L = np.linalg.cholesky(block + np.triu(block, 1).T)
    except np.linalg.LinAlgError:
        return False
    if not (np.diag(L) > 0).all():              # NaN
        return False
    A[rows, first:] = np.linalg.solve(L, A[rows, first:])
    inverse[rows] = 1 / np.diag(L)
    return True


def _solved_above(U: np.ndarray, inverse: np.ndarray, c: np.ndarray, first: int) -> None:
    """Find a block of y in Uᵀy = c, after those above it, and take it from those below."""
    last = first + BYTES // U.itemsize
    c[first:last] = np.linalg.solve(np.triu(U[first:last, first:last]).T, c[first:last])
    c[last:] -= c[first:last] @ U[first:last, last:]


def _solved_below(U: np.ndarray, inverse: np.ndarray, c: np.ndarray, first: int) -> None:
    """Find a block of x in U x = c, after those below it."""
    last = first + BYTES // U.itemsize
    c[first:last] -= U[first:last, last:] @ c[last:]
    c[first:last] = np.linalg.solve(np.triu(U[first:last, first:last]), c[first:last])


# ------------------------------------------------------------------ the same, in compiled kernels


def _write_products(code: Code) -> None:
    """Write a tile after the other, of some rows by three vectors, or what is left of them."""
    b, (out, A, B, n, sign, first, last) = code.builder, code.given
    signs, step = code.all_of(sign), VECTORS * code.lanes

    def tile(row: Any, column: Any, n_vectors: int) -> None:
        sums = [[cgutils.alloca_once(b, code.kind) for _ in range(n_vectors)] for _ in range(ROWS)]
        for each in sums:
            for total in each:
                b.store(code.zero, total)
        with code.range(_long(0), n, 1) as (t, _):
            right = [code.load(code.within(B, t, code.plus(column, v * code.lanes)))
                     for v in range(n_vectors)]
            for r, each in enumerate(sums):
                left = code.all_of(b.load(code.within(B, t, code.plus(row, r))))
                for x, total in zip(right, each, strict=True):
                    b.store(code.fused(left, x, b.load(total)), total)
        for r, each in enumerate(sums):
            for v, total in enumerate(each):
                place = code.plus(row, r), code.plus(column, v * code.lanes)
                code.store(code.fused(signs, b.load(total), code.load(code.at(A, *place))),
                           code.at(out, *place))

    with code.range(first, last, ROWS) as (row, _):
        own = b.and_(row, _long(-code.lanes))
        left_over = b.srem(b.sub(A.row, own), _long(step))
        whole = b.sub(A.row, left_over)
        with code.range(own, whole, step) as (column, _):
            tile(row, column, VECTORS)
        for n_vectors in range(1, VECTORS):
            with b.if_then(b.icmp_signed("==", left_over, _long(n_vectors * code.lanes))):
                tile(row, whole, n_vectors)


def _write_gathered(code: Code) -> None:
    """Write a panel after the other."""
    b, (B, Q, indices, start, stop, last, root, target, c, has_one) = code.builder, code.given
    index = code.kinds[2].dtype
    places = ir.Constant(ir.VectorType(_int, code.lanes), list(range(code.lanes)))
    own = ir.FloatType() if code.kinds[1].dtype.bitwidth == 32 else ir.DoubleType()
    vector = ir.VectorType(own, code.lanes)
    load = cgutils.get_or_insert_function(b.module, ir.FunctionType(vector, [
        vector.as_pointer(), _int, ir.VectorType(ir.IntType(1), code.lanes), vector]),
        f"llvm.masked.load.v{code.lanes}f{8 * code.size if own == code.number else 32}.p0")
    ones = code.all_of(ir.Constant(code.number, 1.0))

    def row(place: Any, column: Any) -> Any:
        found = b.load(code.at(indices, place))
        if found.type != _long:
            found = (b.sext if index.signed else b.zext)(found, _long)
        return code.at(Q, found, column)

    with code.range(_long(0), c.row, code.lanes) as (column, _):
        left = b.trunc(b.sub(Q.row, column), _int)
        ends = code.spread_int(left)
        given = b.icmp_signed("<", places, ends)
        one = b.and_(b.icmp_signed("==", places, ends), code.spread_int(has_one))
        total = cgutils.alloca_once(b, code.kind)
        b.store(code.load(code.at(c, column)), total)
        with code.range(start, stop, 1) as (t, _):
            ahead = code.plus(t, AHEAD)
            ahead = b.select(b.icmp_signed("<", ahead, last), ahead, t)
            ask(b, b.ptrtoint(row(ahead, column), _long))
            q = b.call(load, [b.bitcast(row(t, column), vector.as_pointer()), _int(4), given,
                              ir.Constant(vector, [0.0] * code.lanes)])
            if own != code.number:
                q = b.fpext(q, code.kind)
            q = b.select(one, ones, q)
            place = b.sub(t, start)
            code.store(b.fmul(q, code.all_of(b.load(code.at(root, place)))),
                       code.within(B, place, column))
            b.store(code.fused(q, code.all_of(b.load(code.at(target, place))), b.load(total)),
                    total)
        code.store(b.load(total), code.at(c, column))


def _write_square(code: Code) -> Any:
    """Write column after column of blocks; those off the diagonal count for both triangles."""
    b, (A, base, z) = code.builder, code.given
    double = ir.VectorType(ir.DoubleType(), code.lanes)
    total = cgutils.alloca_once(b, double)
    b.store(ir.Constant(double, [0.0] * code.lanes), total)
    sums = [cgutils.alloca_once(b, code.kind) for _ in range(4)]

    def add(row: Any, column: Any, into: Any) -> None:
        place = code.at(A, row, column), code.at(base, row, column)
        value = code.all_of(b.load(code.at(z, row)))
        b.store(code.fused(value, b.fsub(*map(code.load, place)), b.load(into)), into)

    with code.range(_long(0), A.row, code.lanes) as (column, _):
        for each in sums:
            b.store(code.zero, each)
        with code.range(_long(0), column, len(sums)) as (row, _):
            for number, each in enumerate(sums):
                add(code.plus(row, number), column, each)
        for each in sums:
            b.store(b.fadd(b.load(each), b.load(each)), each)
        with code.range(column, code.plus(column, code.lanes), len(sums)) as (row, _):
            for number, each in enumerate(sums):
                add(code.plus(row, number), column, each)
        x, y = (b.fadd(b.load(sums[i]), b.load(sums[i + 1])) for i in (0, 2))
        left, right = b.fadd(x, y), code.load(code.at(z, column))
        if code.size == 4:
            left, right = b.fpext(left, double), b.fpext(right, double)
        b.store(b.fadd(b.load(total), b.fmul(left, right)), total)
    found, result = b.load(total), ir.Constant(ir.DoubleType(), 0.0)
    for lane in range(code.lanes):
        result = b.fadd(result, b.extract_element(found, _int(lane)))
    return result


def _write_eliminated(code: Code) -> Any:
    b, (A, inverse, first), lanes = code.builder, code.given, range(code.lanes)
    places = [code.at(A, code.plus(first, r), first) for r in lanes]
    rows, sound = [code.load(place) for place in places], ir.Constant(ir.IntType(1), 1)
    for r in lanes:
        pivot = b.extract_element(rows[r], _int(r))
        sound = b.and_(sound, b.fcmp_ordered(">", pivot, ir.Constant(code.number, 0.0)))
        scale = b.fdiv(ir.Constant(code.number, 1.0), code.root(pivot))
        b.store(scale, code.at(inverse, code.plus(first, r)))
        rows[r] = b.fmul(rows[r], code.all_of(scale))
        less = b.fneg(rows[r])
        for s in lanes[r + 1:]:
            rows[s] = code.fused(code.spread(rows[r], s), less, rows[s])
    for row, place in zip(rows, places, strict=True):
        code.store(row, place)
    with code.range(code.plus(first, code.lanes), A.row, code.lanes) as (column, _):
        rest = [code.load(code.at(A, code.plus(first, r), column)) for r in lanes]
        for r in lanes:
            rest[r] = b.fmul(rest[r], code.all_of(b.load(code.at(inverse, code.plus(first, r)))))
            less = b.fneg(rest[r])
            for s in lanes[r + 1:]:
                factor = code.all_of(b.load(b.gep(places[r], [_long(s)])))
                rest[s] = code.fused(factor, less, rest[s])
        for r in lanes:
            code.store(rest[r], code.at(A, code.plus(first, r), column))
    return sound


def self_number(code: Code) -> Any:
    return code.number


def _write_solved_above(code: Code) -> None:
    b, (U, inverse, c, first), lanes = code.builder, code.given, range(code.lanes)
    own, solved = code.load(code.at(c, first)), []
    for r in lanes:
        y = b.fmul(code.spread(own, r), code.all_of(b.load(code.at(inverse, code.plus(first, r)))))
        row = code.load(code.at(U, code.plus(first, r), first))
        solved.append(b.fneg(y))
        own = code.kept(code.fused(solved[r], row, own), own, [lane > r for lane in lanes])
        own = code.kept(y, own, [lane == r for lane in lanes])
    code.store(own, code.at(c, first))
    with code.range(code.plus(first, code.lanes), U.row, code.lanes) as (column, _):
        rest, more = code.load(code.at(c, column)), code.zero
        for r in lanes:
            row = code.load(code.at(U, code.plus(first, r), column))
            if r % 2:
                more = code.fused(solved[r], row, more)
            else:
                rest = code.fused(solved[r], row, rest)
        code.store(b.fadd(rest, more), code.at(c, column))


def _write_solved_below(code: Code) -> None:
    b, (U, inverse, c, first), lanes = code.builder, code.given, range(code.lanes)
    sums = [cgutils.alloca_once(b, code.kind) for _ in lanes]
    for total in sums:
        b.store(code.zero, total)
    with code.range(code.plus(first, code.lanes), U.row, code.lanes) as (column, _):
        x = code.load(code.at(c, column))
        for r, total in enumerate(sums):
            row = code.load(code.at(U, code.plus(first, r), column))
            b.store(code.fused(row, x, b.load(total)), total)
    own = code.load(code.at(c, first))
    added = code.transposed([b.load(total) for total in sums])
    while len(added) > 1:
        added = [b.fadd(x, y) for x, y in zip(added[::2], added[1::2], strict=True)]
    own = b.fsub(own, added[0])
    columns = code.transposed([code.load(code.at(U, code.plus(first, r), first)) for r in lanes])
    for r in reversed(lanes):
        x = b.fmul(code.spread(own, r), code.all_of(b.load(code.at(inverse, code.plus(first, r)))))
        own = code.kept(code.fused(b.fneg(x), columns[r], own), own, [lane < r for lane in lanes])
        own = code.kept(x, own, [lane == r for lane in lanes])
    code.store(own, code.at(c, first))


def _intrinsics() -> tuple[Any, ...]:
    """Return the four functions as kernels call them."""
    if config.DISABLE_JIT:
        return _gathered, _products, _square, _eliminated, _solved_above, _solved_below
    return tuple(intrinsic(each) for each in (
        lambda context, B, Q, indices, start, stop, last, root, target, c, has_one: typed(
            _write_gathered, types.void,
            (B, Q, indices, start, stop, last, root, target, c, has_one)),
        lambda context, out, A, B, n, sign, first, last: typed(
            _write_products, types.void, (out, A, B, n, sign, first, last)),
        lambda context, A, base, z: typed(_write_square, types.float64, (A, base, z)),
        lambda context, A, inverse, first: typed(
            _write_eliminated, types.boolean, (A, inverse, first)),
        lambda context, U, inverse, c, first: typed(
            _write_solved_above, types.void, (U, inverse, c, first)),
        lambda context, U, inverse, c, first: typed(
            _write_solved_below, types.void, (U, inverse, c, first))))


gathered, products, square, eliminated, solved_above, solved_below = _intrinsics()
