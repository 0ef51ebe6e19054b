"""What a worker does: one function a kind of task.

Users and items are cut into blocks of rows.  A block holds its ratings with the columns
renumbered to those that it has, and says which rows of every block of the other side these
are (`wanted`).  So a half-sweep ships to a block the factors that it needs and no others; the
rows are then solved by the solver of one machine, which reads the same numbers in the same
order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.models.factorization.core import Core
from mfcore.models.sides import Sides
from mfcore.objectives.factors import WholeMatrix
from mfcore.objectives.penalty import Prior
from mfcore.objectives.quadratic import Cells, RowSystems
from mfcore.parallel import Pool, gram_parts
from mfcore.solvers.als import Eigenbasis, improved_parts, solve_exactly


class BlockRows(NamedTuple):
    """The factors of a block, what its bias column holds, and the Σ_Ω of its last solve."""

    X: np.ndarray
    bias: np.ndarray
    known: float = 0.0


class Block(NamedTuple):
    """The ratings of some rows, columns renumbered; `wanted[b]` are rows of the other b."""

    cells: Cells
    prior: Prior
    wanted: list[np.ndarray]


class Frozen(NamedTuple):
    """What all blocks of a half-sweep share: sums over the other side, group vectors."""

    whole: WholeMatrix
    basis: Eigenbasis | None
    groups: tuple[np.ndarray, np.ndarray]
    w0: float
    learns_bias: bool
    steps: int


def constant(value: Any) -> Any:
    """Return the value: as a task it can be had again when its worker is lost."""
    return value


def read_block(core: Core, sides: Sides, folder: str, side: str, span: tuple[int, int],
               bounds: list[int], features: Features | None) -> Block:
    """Read rows span[0] to span[1] of a side; `bounds` cut the other side into blocks."""
    opened = Ratings.open(folder, verify=False)
    ratings = (opened if side == "user" else opened.transposed).select_users(np.arange(*span))
    cells, prior = systems_of(core, sides, ratings, side, span, features)
    columns, places = renumbered(cells.indices, ratings.shape[1])
    cuts = np.searchsorted(columns, bounds)
    wanted = [columns[lo:hi] - first for lo, hi, first in
              zip(cuts[:-1], cuts[1:], bounds[:-1], strict=True)]
    return Block(cells._replace(indices=places), prior, wanted)


def renumbered(indices: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which of n columns are met, in order, and for each cell the place of its column.

    (np.unique does the same in forty bytes a cell.)
    """
    met = np.zeros(n, bool)
    met[indices] = True
    return np.flatnonzero(met), (np.cumsum(met, dtype=indices.dtype) - 1)[indices]


def systems_of(core: Core, sides: Sides, ratings: Ratings, name: str, span: tuple[int, int],
               features: Features | None) -> tuple[Cells, Prior]:
    """Return what a fit on one machine makes of rows span[0] to span[1] of a side."""
    side, other = sides if name == "user" else sides[::-1]
    own = replace(side, features=features,
                  feature_names=None if features is None else list(features.names))
    bias = None if side.bias is None else side.bias[slice(*span)]
    return core.half(ratings, own, bias, other.bias)


def wanted_of(block: Block, other: int) -> np.ndarray:
    """Return which rows of the other side's block are wanted."""
    return block.wanted[other]


def load_rows(folder: str, side: str, span: tuple[int, int]) -> BlockRows:
    """Read the rows of a block from the files of the epoch."""
    X, bias = (np.load(path, mmap_mode="r") for path in row_files(folder, side))
    return BlockRows(np.array(X[slice(*span)]), np.array(bias[slice(*span)]))


def store_rows(folder: str, side: str, span: tuple[int, int], rows: BlockRows) -> float:
    """Write the rows of a block to files that exist; return its Σ_Ω."""
    for path, values in zip(row_files(folder, side), rows[:2], strict=True):
        put_rows(path, span[0], values)
    return rows.known


def put_rows(path: Path, start: int, values: np.ndarray) -> None:
    """Write rows to a .npy file from row `start` on, and no byte of another row."""
    there = np.load(path, mmap_mode="r")
    with open(path, "r+b") as stream:
        stream.seek(there.offset + start * there.strides[0])
        stream.write(np.ascontiguousarray(values, there.dtype).data)


def row_files(folder: str, side: str) -> tuple[Path, Path]:
    """Return where the factors and the bias column of a side stand."""
    return Path(folder) / f"{side}.factors.npy", Path(folder) / f"{side}.bias.npy"


def gram_of(rows: BlockRows) -> list[np.ndarray]:
    """Return the products that make the Gram of [X | 1 | bias], one a chunk of rows."""
    X, bias = rows[:2]
    with Pool(1) as pool:
        return gram_parts(X, pool, beside=(np.broadcast_to(X.dtype.type(1), len(X)), bias))


def turn(rows: BlockRows, frozen: Frozen) -> BlockRows:
    """Turn the rows of a block into the eigenbasis, where the solver wants that."""
    if frozen.basis is None:
        return rows
    with Pool(1) as pool:
        return rows._replace(X=frozen.basis.turn(rows.X, pool))


def ship(rows: BlockRows, wanted: np.ndarray) -> BlockRows:
    """Return the rows that another block wants."""
    return BlockRows(rows.X[wanted], rows.bias[wanted])


def solve(block: Block, rows: BlockRows, frozen: Frozen, *shipped: BlockRows) -> BlockRows:
    """Solve the rows of a block as one machine would; `shipped` are the other side's rows."""
    X, bias = rows.X.copy(), rows.bias.copy()           # (a task must not change its input)
    Q, gamma = (np.concatenate(parts) for parts in zip(*(part[:2] for part in shipped),
                                                       strict=True))
    systems = RowSystems(block.cells, block.prior.at(*frozen.groups), Q, gamma, frozen.w0,
                         frozen.learns_bias, whole=frozen.whole)
    with Pool(1) as pool:
        if frozen.basis is None:
            known = solve_exactly(systems, X, bias, pool)
        else:
            known = float(sum(improved_parts(frozen.basis, systems, X, bias, pool, frozen.steps)))
    return BlockRows(X, bias, known)
