"""What functions on arrays are written with in the language of LLVM, in vectors of one size.

`typed` gives a function to Numba.  Its body is written with a `Code`, whose arrays are addresses
with distances between rows, and, where a matrix is cut into panels as wide as a vector, between
panels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import llvmlite.binding as ll
from llvmlite import ir
from numba import types
from numba.core import cgutils

WIDE = bool(ll.get_host_cpu_features().get("avx512f"))
BYTES = 64 if WIDE else 32                    # of a vector
_long, _int = ir.IntType(64), ir.IntType(32)


class Array(NamedTuple):
    """Where an array begins, and how far it is from a row, and from a panel, to the next."""

    start: Any
    row: Any
    panel: Any


class Code:
    """What a function is written with: arrays as addresses, and operations on vectors."""

    def __init__(self, builder: Any, kinds: Sequence[Any], given: Sequence[Any]) -> None:
        self.builder, self.kinds, self.given = builder, kinds, given
        self.number = ir.FloatType() if kinds[0].dtype.bitwidth == 32 else ir.DoubleType()
        self.size = kinds[0].dtype.bitwidth // 8
        self.lanes = BYTES // self.size
        self.kind = ir.VectorType(self.number, self.lanes)
        self.zero = ir.Constant(self.kind, [0.0] * self.lanes)

    def range(self, first: Any, last: Any, step: int) -> Any:
        """Loop over places."""
        return cgutils.for_range_slice(self.builder, first, last, _long(step), intp=_long)

    def at(self, array: Array, row: Any, column: Any = None) -> Any:
        """Return the address of a number of a matrix, or of a vector."""
        b = self.builder
        place = row if column is None else b.add(b.mul(row, array.row), column)
        return b.gep(array.start, [place])

    def load(self, pointer: Any) -> Any:
        """Return the vector that begins at an address."""
        return self.builder.load(self.builder.bitcast(pointer, self.kind.as_pointer()),
                                 align=self.size)

    def store(self, vector: Any, pointer: Any) -> None:
        """Write a vector to an address."""
        self.builder.store(vector, self.builder.bitcast(pointer, self.kind.as_pointer()),
                           align=self.size)

    def within(self, array: Array, row: Any, column: Any) -> Any:
        """Return the address of a number of a matrix, or of one that is cut into panels."""
        b, bits = self.builder, self.lanes.bit_length() - 1
        lane = b.and_(column, _long(self.lanes - 1))
        start = b.add(b.mul(b.ashr(column, _long(bits)), array.panel), lane)
        return b.gep(array.start, [b.add(start, b.mul(row, array.row))])

    def plus(self, place: Any, more: int) -> Any:
        """Return a place further on."""
        return self.builder.add(place, _long(more))

    def fused(self, x: Any, y: Any, z: Any) -> Any:
        """Return x y + z."""
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.kind, [self.kind] * 3),
            f"llvm.fmuladd.v{self.lanes}f{8 * self.size}")
        return self.builder.call(function, [x, y, z])

    def root(self, x: Any) -> Any:
        """Return √x of one number."""
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(self.number, [self.number]),
            f"llvm.sqrt.f{8 * self.size}")
        return self.builder.call(function, [x])

    def shuffled(self, x: Any, y: Any, places: Sequence[int]) -> Any:
        """Return the numbers at some places of x, and, from `lanes` on, of y."""
        return self.builder.shuffle_vector(x, y, ir.Constant(
            ir.VectorType(_int, self.lanes), list(places)))

    def all_of(self, number: Any) -> Any:
        """Return a vector of one number over and over."""
        one = self.builder.insert_element(self.zero, number, _int(0))
        return self.shuffled(one, one, [0] * self.lanes)

    def spread_int(self, number: Any) -> Any:
        """Return a vector of one whole number over and over."""
        kind = ir.VectorType(number.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, [0] * self.lanes), number, _int(0))
        return self.builder.shuffle_vector(one, one, ir.Constant(
            ir.VectorType(_int, self.lanes), [0] * self.lanes))

    def spread(self, vector: Any, lane: int) -> Any:
        """Return a vector of one of the numbers of another."""
        return self.shuffled(vector, vector, [lane] * self.lanes)

    def kept(self, x: Any, y: Any, lanes: Sequence[bool]) -> Any:
        """Return x in some lanes, and y in the others."""
        return self.shuffled(x, y, [lane if own else self.lanes + lane
                                    for lane, own in enumerate(lanes)])

    def transposed(self, rows: Sequence[Any]) -> list[Any]:
        """Return the columns of a square block."""
        block, stride = list(rows), self.lanes // 2
        while stride:
            for i in range(self.lanes):
                if not i & stride:
                    x, y = block[i], block[i + stride]
                    block[i] = self.shuffled(x, y, [
                        self.lanes + lane - stride if lane & stride else lane
                        for lane in range(self.lanes)])
                    block[i + stride] = self.shuffled(x, y, [
                        self.lanes + lane if lane & stride else lane + stride
                        for lane in range(self.lanes)])
            stride //= 2
        return block


def typed(write: Callable[[Code], Any], returns: Any, kinds: Sequence[Any]) -> Any:
    """Return the types of a function, the first an array's, and what calls its code.

    A module of LLVM has it once for each type of numbers, whatever calls it.
    """
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        given, kinds = [], signature.args
        for kind, value in zip(kinds, arguments, strict=True):
            given.append(value)
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value)
                shape = cgutils.unpack_tuple(builder, array.shape)
                lanes = _long(BYTES // (kind.dtype.bitwidth // 8))
                given[-1:] = [array.data, *(
                    (lanes, builder.mul(shape[1], lanes)) if kind.ndim == 3
                    else (shape[-1], lanes))]
        returned = context.get_value_type(signature.return_type)
        kind = ir.FunctionType(returned, [value.type for value in given])
        name = f"mfcore{write.__name__}({kind}{kinds[2]})"
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, kind, name)
            function.linkage = "internal"
            inside, values = ir.IRBuilder(function.append_basic_block()), iter(function.args)
            found = write(Code(inside, kinds, [
                Array(next(values), next(values), next(values))
                if isinstance(kind, types.Array) else next(values) for kind in kinds]))
            inside.ret(context.get_dummy_value() if found is None else found)
        return builder.call(function, given)

    return returns(*(kind if isinstance(kind, types.Array) else types.int64
                     if isinstance(kind, types.Integer) else types.boolean
                     if isinstance(kind, types.Boolean) else kinds[0].dtype for kind in kinds)
                   ), generate
