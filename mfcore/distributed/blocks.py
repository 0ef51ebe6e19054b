"""What a worker does: one function for each kind of task.

Users and items are cut into blocks of rows.  The rows of a block are solved by the solver of one
machine, which reads the same numbers in the same order.  The factors that it reads come in one
of two ways:

    shipped      The columns of a block's ratings are renumbered to those that occur, and
                 `wanted` says which rows of each block of the other side these are.  A
                 half-sweep ships these rows to the block and no others.
    shared       The factors of the other side are mapped from a file.  The columns stay as
                 they are, and the rows that a block solves are written to another file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from mfcore.data.features import Features
from mfcore.data.ratings import Ratings
from mfcore.models.factorization.core import Core
from mfcore.models.sides import Sides
from mfcore.npy import mapped
from mfcore.objectives.factors import WholeMatrix
from mfcore.objectives.penalty import Prior
from mfcore.objectives.quadratic import Cells, RowSystems
from mfcore.parallel import GRAM_ROWS, Pool, gram_parts
from mfcore.solvers.als import Eigenbasis, exact_parts, finished_parts, improved_parts


class BlockRows(NamedTuple):
    """The factors of a block, its bias column, and the Σ_Ω of its last solve."""

    X: np.ndarray
    bias: np.ndarray
    known: float = 0.0


class Block(NamedTuple):
    """The ratings of some rows; `wanted[b]` are the rows of block b of the other side to ship."""

    cells: Cells
    prior: Prior
    wanted: list[np.ndarray]


class Share(NamedTuple):
    """The ratings of a run of chunks, with empty rows before and after that fill up tiles.

    `first` is the first row, at a multiple of GRAM_ROWS; `chunks` are counted from there.
    """

    cells: Cells
    prior: Prior
    first: int
    chunks: np.ndarray


class Frozen(NamedTuple):
    """What all blocks of a half-sweep use: sums over the other side, group vectors."""

    whole: WholeMatrix
    basis: Eigenbasis | None
    groups: tuple[np.ndarray, np.ndarray]
    w0: float
    learns_bias: bool
    steps: int
    ends: bool = False


def constant(value: Any) -> Any:
    """Return the value: as the result of a task it can be recovered when its worker is lost."""
    return value


# -------------------------------------------------------------------------------- ratings


def read_block(core: Core, sides: Sides, folder: str, side: str, span: tuple[int, int],
               bounds: list[int], features: Features | None) -> Block:
    """Read rows span[0] to span[1] of a side; `bounds` cut the other side into blocks."""
    ratings = _opened(folder, side).select_users(np.arange(*span))
    cells, prior = _systems_of(core, sides, ratings, side, span, features)
    met = np.zeros(ratings.shape[1], bool)      # (np.unique takes forty bytes per cell)
    met[cells.indices] = True
    columns = np.flatnonzero(met)
    places = (np.cumsum(met, dtype=cells.indices.dtype) - 1)[cells.indices]
    cuts = np.searchsorted(columns, bounds)
    wanted = [columns[lo:hi] - first for lo, hi, first in
              zip(cuts[:-1], cuts[1:], bounds[:-1], strict=True)]
    return Block(cells._replace(indices=places), prior, wanted)


def read_share(core: Core, sides: Sides, folder: str, side: str, chunks: np.ndarray,
               features: Features | None) -> Share:
    """Read the rows of a run of chunks; rows that fill up tiles come without ratings."""
    whole = _opened(folder, side)
    lo, hi = int(chunks[0]), int(chunks[-1])
    first, last = tiles_around(lo, hi, whole.shape[0])
    own = whole.select_users(np.arange(lo, hi))
    filled = sp.csr_array((own.by_user.data, own.by_user.indices, np.pad(
        own.by_user.indptr, (lo - first, last - hi), "edge")), (last - first, own.shape[1]))
    cells, prior = _systems_of(core, sides, Ratings(filled, weights=own.weights, copy=False),
                               side, (first, last), features)
    return Share(cells, prior, first, chunks - first)


def tiles_around(lo: int, hi: int, n_rows: int) -> tuple[int, int]:
    """Return the rows of the tiles that rows lo to hi touch."""
    return lo // GRAM_ROWS * GRAM_ROWS, min(-(-hi // GRAM_ROWS) * GRAM_ROWS, n_rows)


def _opened(folder: str, side: str) -> Ratings:
    ratings = Ratings.open(folder, verify=False)
    return ratings if side == "user" else ratings.transposed


def _systems_of(core: Core, sides: Sides, ratings: Ratings, name: str, span: tuple[int, int],
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


# ---------------------------------------------------------------------------------- files


def row_files(folder: str, side: str) -> tuple[Path, Path]:
    """Return the files of the factors and of the bias column of a side."""
    return Path(folder) / f"{side}.factors.npy", Path(folder) / f"{side}.bias.npy"


def load_rows(folder: str, side: str, span: tuple[int, int]) -> BlockRows:
    """Read the rows of a block from the files of the epoch."""
    X, bias = (mapped(path) for path in row_files(folder, side))
    return BlockRows(np.array(X[slice(*span)]), np.array(bias[slice(*span)]))


def store_rows(folder: str, side: str, span: tuple[int, int], rows: BlockRows) -> float:
    """Write the rows of a block to files that exist; return its Σ_Ω."""
    for path, values in zip(row_files(folder, side), rows[:2], strict=True):
        put_rows(path, span[0], values)
    return rows.known


def put_rows(path: Path, start: int, values: np.ndarray) -> None:
    """Write rows to a .npy file from row `start` on, and no byte of any other row."""
    there: Any = mapped(path)
    with open(path, "r+b") as stream:
        stream.seek(there.offset + start * there.strides[0])
        stream.write(np.ascontiguousarray(values, there.dtype).data)


# -------------------------------------------------------------------- half-sweeps, shipped


def gram_of(rows: BlockRows, dtype: type | None) -> list[np.ndarray]:
    """Return the products that make the Gram of [X | 1 | bias], one per chunk of rows."""
    X, bias = rows[:2]
    with Pool(1) as pool:
        return gram_parts(X, pool, beside=(np.broadcast_to(X.dtype.type(1), len(X)), bias),
                          dtype=dtype)


def turn(rows: BlockRows, frozen: Frozen) -> BlockRows:
    """Turn the rows of a block into the eigenbasis, if the solver wants that."""
    if frozen.basis is None:
        return rows
    with Pool(1) as pool:
        return rows._replace(X=frozen.basis.frozen(rows.X, pool))


def ship(rows: BlockRows, wanted: np.ndarray) -> BlockRows:
    """Return the rows that another block wants."""
    return BlockRows(rows.X[wanted], rows.bias[wanted])


def solve(block: Block, rows: BlockRows, frozen: Frozen, *shipped: BlockRows) -> BlockRows:
    """Solve the rows of a block as one machine would; `shipped` are the other side's rows."""
    X, bias = rows.X.copy(), rows.bias.copy()           # (a task must not change its input)
    Q, gamma = (np.concatenate(parts) for parts in zip(*(part[:2] for part in shipped),
                                                       strict=True))
    return BlockRows(X, bias, float(sum(_solved_parts(block, Q, gamma, X, bias, frozen))))


def _solved_parts(block: Block | Share, Q: np.ndarray, gamma: np.ndarray, X: np.ndarray,
                  bias: np.ndarray, frozen: Frozen, chunks: np.ndarray | None = None
                  ) -> list[float]:
    """Solve rows in place; return what each chunk adds to Σ_Ω."""
    systems = RowSystems(block.cells, block.prior.at(*frozen.groups), Q, gamma, frozen.w0,
                         frozen.learns_bias, whole=frozen.whole)
    with Pool(1) as pool:
        if frozen.ends:
            return finished_parts(systems, X, bias, pool, chunks)
        if frozen.basis is None:
            return exact_parts(systems, X, bias, pool, chunks, many=True)
        return improved_parts(frozen.basis, systems, X, bias, pool, frozen.steps, chunks)


# --------------------------------------------------------------------- half-sweeps, shared


def gram_in(folder: str, side: str, span: tuple[int, int], dtype: type | None
            ) -> list[np.ndarray]:
    """Return the products that make the Gram of rows in a file."""
    return gram_of(load_rows(folder, side, span), dtype)


def turn_in(folder: str, side: str, span: tuple[int, int], frozen: Frozen, target: str) -> None:
    """Turn rows of a file into the eigenbasis, and write them to another."""
    put_rows(Path(target), span[0], turn(load_rows(folder, side, span), frozen).X)


def solve_share(share: Share, frozen: Frozen, side: str, own: str, others: tuple[str, str],
                target: str, *_: None) -> list[float]:
    """Solve the rows of a run of chunks from the files in `own` into those in `target`.

    `others` are the files of the frozen side, its factors and its bias column.  Returns what
    each chunk adds to Σ_Ω.
    """
    first, chunks = share.first, share.chunks
    X, bias = load_rows(own, side, (first, first + len(share.cells.indptr) - 1))[:2]
    Q, gamma = (np.asarray(mapped(path)) for path in others)
    parts = _solved_parts(share, Q, gamma, X, bias, frozen, chunks)
    lo, hi = int(chunks[0]), int(chunks[-1])
    store_rows(target, side, (first + lo, first + hi), BlockRows(X[lo:hi], bias[lo:hi]))
    return parts
