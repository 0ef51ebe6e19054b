"""Products with rows of a matrix that indices name, in vector registers throughout.

    dots       s_t = q_t·p                for the rows q_t of Q at indices[start:stop]
    add        r ← r + Σ_t e_t q_t
    add_both   the same, and diagonal ← diagonal + Σ_t a_t q_t²

They are written in the language of LLVM.  Compiled from loops, they would check for every few rows
whether r shares memory with Q and whether an index is negative, sum each product across the lanes
of its vector alone, and wait for memory: that takes longer than the products.  Here sums over rows
stay in registers, eight products are summed across lanes together, and while `dots` reads eight
rows, it asks for those that are `AHEAD` places on: no hardware guesses the order of a user's items.

Rows may be rounded to bfloat16 and packed two numbers to a word (`packed`).  A bfloat16 is the
upper half of a float32, its exponent and 7 bits of its fraction, so that a shift makes a float32 of
it; and rows take half of the memory, on which these products wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import llvmlite.binding as ll
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

CACHE_LINE = 64     # bytes
GROUP = 8           # rows that are read together
AHEAD = 64          # rows between asking for one and reading it
UPPER, BITS = np.uint32(0xFFFF0000), np.uint32(16)
SUMS = 8            # vectors of sums that are in registers at a time
LANES = 16 if ll.get_host_cpu_features().get("avx512f") else 8      # most numbers of a vector
# Places in two vectors, the second from 8 on, that are added for the vectors of the next round.
ROUNDS = (((0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)),
          ((0, 2, 8, 10, 4, 6, 12, 14), (1, 3, 9, 11, 5, 7, 13, 15)),
          ((0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)))
_long, _int = ir.IntType(64), ir.IntType(32)


def aligned(shape: tuple[int, int], dtype: Any) -> np.ndarray:
    """Return an array, not filled, that begins at a cache line, so that rows cross few of them."""
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    room = np.empty(size + CACHE_LINE, np.uint8)
    start = -room.ctypes.data % CACHE_LINE
    rows: np.ndarray = room[start:start + size].view(dtype).reshape(shape)
    return rows


def packed(X: np.ndarray, out: np.ndarray) -> None:
    """Round X of float32, shape (n, 2 H), to bfloat16, and write it to words of shape (n, H).

    The lower half of word f is X[:, f], the upper one X[:, f + H].
    """
    words = np.ascontiguousarray(X).view(np.uint32)
    H = words.shape[1] // 2
    rounded = (words >> BITS) & np.uint32(1)            # to the nearest, of two to the even one
    rounded += np.uint32(0x7FFF)
    rounded += words
    np.right_shift(rounded[:, :H], BITS, out=out)
    out |= rounded[:, H:] & UPPER


def unpacked(Q: np.ndarray) -> np.ndarray:
    """Return the numbers of packed rows, float32; other rows as they are."""
    if Q.dtype != np.uint32:
        return Q
    return np.concatenate([Q << BITS, Q & UPPER], axis=-1).view(np.float32)


class Gathers(NamedTuple):
    """The products for rows of one width; see `gathers`."""

    dots: Any
    add: Any
    add_both: Any


@cache
def gathers(K: int) -> Gathers:
    """Return the products for rows of K numbers, a multiple of 16, of arrays without gaps.

    They are called as `_dots`, `_add` and `_add_both` below, which is what they do, by kernels.
    Arrays s, e and a have room for a multiple of eight numbers, and e and a are 0 up to one.
    """
    if config.DISABLE_JIT:
        return Gathers(_dots, _add, _add_both)
    written = [_compiled(write, K) for write in (_write_dots, _write_add, _write_both)]
    return Gathers(*(intrinsic(each) for each in (
        lambda context, Q, indices, start, stop, last, p, s: written[0](
            Q, indices, start, stop, last, p, s),
        lambda context, Q, indices, start, stop, e, r: written[1](
            Q, indices, start, stop, e, r),
        lambda context, Q, indices, start, stop, e, r, a, diagonal: written[2](
            Q, indices, start, stop, e, r, a, diagonal))))


def _dots(Q: np.ndarray, indices: np.ndarray, start: int, stop: int, last: int, p: np.ndarray,
          s: np.ndarray) -> None:
    """Write q_t·p to s; rows of indices before `last` may be asked for."""
    s[:stop - start] = unpacked(Q[indices[start:stop]]) @ p


def _add(Q: np.ndarray, indices: np.ndarray, start: int, stop: int, e: np.ndarray,
         r: np.ndarray) -> None:
    """Add Σ e_t q_t to r."""
    r += e[:stop - start] @ unpacked(Q[indices[start:stop]])


def _add_both(Q: np.ndarray, indices: np.ndarray, start: int, stop: int, e: np.ndarray,
              r: np.ndarray, a: np.ndarray, diagonal: np.ndarray) -> None:
    """Add Σ e_t q_t to r, and Σ a_t q_t² to the diagonal."""
    rows = unpacked(Q[indices[start:stop]])
    r += e[:stop - start] @ rows
    diagonal += a[:stop - start] @ (rows * rows)


# ------------------------------------------------------------- the same, in compiled kernels


class _Rows:
    """What a product is written with: the rows, as addresses and as vectors of numbers."""

    def __init__(self, context: Any, builder: Any, kinds: Sequence[Any], values: Sequence[Any],
                 K: int) -> None:
        self.builder, self.K = builder, K
        self.rows, self.indices, self.start, self.stop, *self.rest = [
            context.make_array(kind)(context, builder, value).data
            if isinstance(kind, types.Array) else value
            for kind, value in zip(kinds, values, strict=True)]
        self.is_packed, self.is_signed = kinds[0].dtype == types.uint32, kinds[1].dtype.signed
        self.number = ir.FloatType() if kinds[0].dtype.bitwidth == 32 else ir.DoubleType()
        self.size = kinds[0].dtype.bitwidth // 8
        self.width = K // 2 if self.is_packed else K
        self.lanes = LANES if self.width % LANES == 0 else GROUP
        self.zero = ir.Constant(ir.VectorType(self.number, self.lanes), [0.0] * self.lanes)

    @contextmanager
    def groups(self, size: int) -> Iterator[Any]:
        """Loop over the rows, `size` at a time; yields how many came before."""
        count = self.builder.sub(self.stop, self.start)
        with cgutils.for_range_slice(self.builder, _long(0), count, _long(size), intp=_long
                                     ) as (t, _):
            yield t

    def row(self, t: Any, lane: int, end: Any = None) -> Any:
        """Return the address of row t + lane, or of the last one before the end."""
        b = self.builder
        place = b.add(b.add(self.start, t), _long(lane))
        last = b.sub(self.stop if end is None else end, _long(1))
        place = b.select(b.icmp_signed("<", place, last), place, last)
        index = b.load(b.gep(self.indices, [place]))
        if index.type != _long:
            index = (b.sext if self.is_signed else b.zext)(index, _long)
        return b.gep(self.rows, [b.mul(index, _long(self.width))])

    def ask(self, row: Any) -> None:
        """Ask for all lines of a row."""
        first = self.builder.ptrtoint(row, _long)
        for line in range(0, self.width * self.size, CACHE_LINE):
            ask(self.builder, self.builder.add(first, _long(line)))

    def load(self, pointer: Any, place: int) -> Any:
        """Return the vector that begins at a place."""
        kind = ir.VectorType(pointer.type.pointee, self.lanes)
        return self.builder.load(self._at(pointer, _long(place), kind), align=self.size)

    def store(self, vector: Any, pointer: Any, place: Any) -> None:
        """Write a vector to a place."""
        self.builder.store(vector, self._at(pointer, place, vector.type), align=self.size)

    def _at(self, pointer: Any, place: Any, kind: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [place]), kind.as_pointer())

    def numbers(self, row: Any, f: int) -> Iterator[tuple[int, Any]]:
        """Yield the vectors of numbers that are in the words from f on, each after its place."""
        b, words, real = self.builder, self.load(row, f), self.zero.type
        if not self.is_packed:
            yield f, words
            return
        yield f, b.bitcast(b.shl(words, self._all(int(BITS))), real)
        yield f + self.width, b.bitcast(b.and_(words, self._all(int(UPPER))), real)

    def places(self, f: int) -> tuple[int, ...]:
        """Return the places of the vectors in the words from f on."""
        return (f, f + self.width) if self.is_packed else (f,)

    def _all(self, number: int) -> Any:
        return ir.Constant(ir.VectorType(_int, self.lanes), [number] * self.lanes)

    def fused(self, x: Any, y: Any, z: Any) -> Any:
        """Return x y + z."""
        kind, bits = self.zero.type, 32 if self.number == ir.FloatType() else 64
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(kind, [kind] * 3),
            f"llvm.fmuladd.v{self.lanes}f{bits}")
        return self.builder.call(function, [x, y, z])

    def scale(self, pointer: Any, place: Any) -> Any:
        """Return a vector of one number over and over."""
        b = self.builder
        one = b.insert_element(self.zero, b.load(b.gep(pointer, [place])), _int(0))
        return b.shuffle_vector(one, one, self._all(0))

    def sums(self, vectors: Sequence[Any]) -> Any:
        """Return the sums of eight vectors, as one vector."""
        b = self.builder

        def added(x: Any, y: Any, masks: Sequence[Sequence[int]]) -> Any:
            return b.fadd(*(b.shuffle_vector(x, y, ir.Constant(
                ir.VectorType(_int, GROUP), list(mask))) for mask in masks))

        halves = [range(lane, lane + GROUP) for lane in range(0, self.lanes, GROUP)]
        found = [added(each, each, halves) for each in vectors] if len(halves) > 1 else vectors
        for masks in ROUNDS:
            found = [added(x, y, masks) for x, y in zip(found[::2], found[1::2], strict=True)]
        return found[0]


def _write_dots(given: _Rows) -> None:
    last, p, s = given.rest
    with given.groups(GROUP) as t:
        for lane in range(GROUP):
            given.ask(given.row(t, lane + AHEAD, last))
        rows, found = [given.row(t, lane) for lane in range(GROUP)], [given.zero] * GROUP
        for f in range(0, given.width, given.lanes):
            pieces = {place: given.load(p, place) for place in given.places(f)}
            for lane, row in enumerate(rows):
                for place, q in given.numbers(row, f):
                    found[lane] = given.fused(q, pieces[place], found[lane])
        given.store(given.sums(found), s, t)


def _write_add(given: _Rows) -> None:
    e, r = given.rest
    _write_sums(given, [(e, r, False)])


def _write_both(given: _Rows) -> None:
    e, r, a, diagonal = given.rest
    _write_sums(given, [(e, r, False), (a, diagonal, True)])


def _write_sums(given: _Rows, terms: Sequence[tuple[Any, Any, bool]]) -> None:
    """Add Σ e_t q_t to r, or Σ e_t q_t² where it says so, for terms (e, r, is_square).

    A pass over the rows for every few factors, so that sums stay in registers.  Where they are
    fewer, rows of a group have sums of their own, so that none waits for another.
    """
    b, per_word = given.builder, len(given.places(0)) * len(terms)
    step = given.lanes * max(1, SUMS // per_word)
    for first in range(0, given.width, step):
        words = range(first, min(first + step, given.width), given.lanes)
        apart = max(1, SUMS // (per_word * len(words)))
        sums = [{(n, place): cgutils.alloca_once(b, given.zero.type) for n in range(len(terms))
                 for f in words for place in given.places(f)} for _ in range(apart)]
        for number, own in enumerate(sums):
            for (n, place), total in own.items():
                b.store(given.zero if number else given.load(terms[n][1], place), total)
        with given.groups(apart) as t:
            for lane, own in enumerate(sums):
                row = given.row(t, lane)
                scales = [given.scale(e, b.add(t, _long(lane))) for e, _, _ in terms]
                for f in words:
                    for place, q in given.numbers(row, f):
                        for n, (_, _, is_square) in enumerate(terms):
                            term = b.fmul(q, q) if is_square else q
                            b.store(given.fused(term, scales[n], b.load(own[n, place])),
                                    own[n, place])
        for (n, place), total in sums[0].items():
            whole = b.load(total)
            for own in sums[1:]:
                whole = b.fadd(whole, b.load(own[n, place]))
            given.store(whole, terms[n][1], _long(place))


def _compiled(write: Callable[[_Rows], None], K: int) -> Callable[..., Any]:
    """Return the typing of a product, and how its code is written."""
    def typed(*kinds: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            write(_Rows(context, builder, signature.args, arguments, K))
            return context.get_dummy_value()

        return types.void(*(kind if isinstance(kind, types.Array) else types.int64
                            for kind in kinds)), generate

    return typed


# ----------------------------------------------------------------- rows of any width, one by one


def ask(builder: Any, address: Any) -> None:
    """Emit one `llvm.prefetch` (read, keep)."""
    byte = ir.IntType(8).as_pointer()
    prefetch = cgutils.get_or_insert_function(builder.module, ir.FunctionType(
        ir.VoidType(), [byte, _int, _int, _int]), "llvm.prefetch.p0")
    builder.call(prefetch, [builder.inttoptr(address, byte), _int(0), _int(3), _int(1)])


def _prefetch_row(typing_context: Any, X: Any, row: Any) -> Any:
    """Ask for every cache line of X[row]; X is (n, k)."""
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, arguments[0])
        place = context.cast(builder, arguments[1], signature.args[1], types.int64)
        offset = builder.mul(place, builder.extract_value(array.strides, 0))
        start = builder.add(builder.ptrtoint(array.data, _long), offset)
        length = builder.mul(builder.extract_value(array.shape, 1),
                             _long(kind.dtype.bitwidth // 8))
        with cgutils.for_range_slice(builder, _long(0), length, _long(CACHE_LINE),
                                     intp=_long) as (line, _):
            ask(builder, builder.add(start, line))
        return context.get_dummy_value()

    return types.void(X, row), generate


def _do_nothing(X: np.ndarray, row: int) -> None:
    """Replace the intrinsic when nothing is compiled."""


prefetch_row: Any = _do_nothing if config.DISABLE_JIT else intrinsic(_prefetch_row)
