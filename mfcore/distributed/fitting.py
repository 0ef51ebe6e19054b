"""`fit` on a cluster: the fit of one machine with another solver under it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.atomic import absent
from mfcore.data.chunks import Mapped
from mfcore.data.convert import convert
from mfcore.data.folder import HEADER
from mfcore.data.layout import Reading
from mfcore.data.ratings import Ratings
from mfcore.data.readers import check_parts, parts_of, read_columns
from mfcore.distributed.cluster import (
    check_room,
    check_versions,
    connected,
    least_memory,
    on_this_machine,
    thread_total,
)
from mfcore.distributed.planning import block_bytes
from mfcore.distributed.shared import SharedALS, shared_bounds
from mfcore.distributed.sweeps import BlockALS, block_bounds
from mfcore.models.factorization.core import Core, Draw
from mfcore.models.factorization.implicit import ImplicitMF
from mfcore.models.factorization.matrix_factorization import MatrixFactorization
from mfcore.models.sides import Side, Sides
from mfcore.models.training import train, training_ratings
from mfcore.objectives.quadratic import Quadratic
from mfcore.parallel import GRAM_ROWS, row_chunks
from mfcore.solvers.loop import Solver

Model = TypeVar("Model", MatrixFactorization, ImplicitMF)
SOLVERS = ("cg", "cholesky")
BLOCK_CELLS = 5_000_000


def fit(model: Model, ratings: Any, *, client: Any = None, block_cells: int = BLOCK_CELLS,
        scratch: str | os.PathLike[str] | None = None,
        factors: str | os.PathLike[str] | None = None, reading: Reading | None = None,
        shared: bool | None = None, **options: Any) -> Model:
    """Fit a model on a Dask cluster; return it, fitted as `model.fit` would.

    Parameters
    ----------
    model : MatrixFactorization or ImplicitMF
        With solver "cg" or "cholesky" and the squared loss.
    ratings : Ratings, scipy sparse, or path
        A path is a folder that `Ratings.write` or `mfcore convert` made, or ratings files and
        folders of them (csv, parquet, ...), which the workers then read.
    client : dask.distributed.Client or None
        None: a cluster of this machine, a process a CPU, for the time of the fit.
    block_cells : int, >= 1
        Ratings of a block, about.  Where factors are shipped, blocks depend on the ratings and
        this number alone; where they are shared it is the most, and the threads decide.
    scratch : path or None
        A folder that client and workers see under one name, for what they exchange; None: one
        of the temporary folder, which will do for a cluster of this machine.
    factors : path or None
        A folder to make, seen by client and workers under one name, in which the factors stay:
        `user_factors_` and `item_factors_` are files, mapped, of which `recommend` and
        `evaluate` of this module ship the names alone.  None: the client holds them.
    reading : mfcore.data.layout.Reading or None
        Columns of files.
    shared : bool or None
        Whether workers map one copy of the factors from files of `scratch`, or each ships to the
        others the rows that they want.  None: share if all workers are on this machine.
    **options
        Of `model.fit`: user_features, item_features, eval_set, callbacks, checkpoint.

    Returns
    -------
    model : the same, with the factors of `model.fit(ratings, **options)` to the last bit,
        whatever the number of workers; the loss, too, where factors are shared, else up to
        rounding.

    Raises
    ------
    RuntimeError
        A cluster without workers, without mfcore or with another version.
    ValueError
        Blocks that do not fit a worker (it says which would), parts with other columns.

    Notes
    -----
    With `checkpoint=` a fit whose scheduler or client died goes on when called again with
    another client, to the same bits.  A worker that dies costs its share of an epoch.
    """
    _check_model(model)
    validation.integer("block_cells", block_cells, low=1)
    if shared is not None:
        validation.boolean("shared", shared)
    kept = None if factors is None else absent(factors)
    with connected(client) as cluster, _scratch(scratch) as folder:
        check_versions(cluster)
        given = _opened(ratings, folder, cluster, reading or Reading())
        training = training_ratings(given, None)
        indptr = {"user": training.by_user.indptr, "item": training.by_item.indptr}
        chunks, spans = _cut(indptr, model.n_factors, block_cells, cluster, shared)
        check_room(block_bytes(training, spans, model.n_factors, np.dtype(model.dtype).itemsize),
                   block_cells, least_memory(cluster))
        if training.folder is None:
            training.write(folder / "ratings")
        place = training.folder or str(folder / "ratings")
        backend = Cluster(cluster, model.cg_steps if model.solver == "cg" else 0, place, folder,
                          spans, chunks, kept, int(model.verbose))
        fitted: Model = train(model, training, backend=backend, **options)
        return fitted


def _cut(indptr: dict[str, np.ndarray], k: int, block_cells: int, client: Any,
         shared: bool | None) -> tuple[dict[str, np.ndarray] | None, dict[str, list[int]]]:
    """Return the chunks of both sides where factors are shared, else None; and the blocks."""
    if not (on_this_machine(client) if shared is None else shared):
        return None, {side: block_bounds(each, block_cells) for side, each in indptr.items()}
    cuts = {side: shared_bounds(each, k, block_cells, thread_total(client))
            for side, each in indptr.items()}
    return ({side: chunks for side, (chunks, _) in cuts.items()},
            {side: bounds for side, (_, bounds) in cuts.items()})


def _check_model(model: Any) -> None:
    if not isinstance(model, (MatrixFactorization, ImplicitMF)):
        raise TypeError(f"a distributed fit takes MatrixFactorization or ImplicitMF, got "
                        f"{type(model).__name__}")
    model.validate()
    validation.choice("solver of a distributed fit", model.solver, SOLVERS)
    if getattr(model, "loss", "squared") != "squared":
        raise ValueError("a distributed fit needs loss='squared', got 'logistic'")


@contextmanager
def _scratch(given: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Give a folder of our own that is removed at the end."""
    folder = Path(os.path.abspath(tempfile.mkdtemp(prefix="mfcore-", dir=given)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _opened(ratings: Any, folder: Path, client: Any, reading: Reading) -> Any:
    """Return Ratings of a path, read by the workers where it names files; else what came."""
    if isinstance(ratings, (str, os.PathLike)) and Path(ratings, HEADER).exists():
        return Ratings.open(ratings)
    if not isinstance(ratings, (str, os.PathLike, list, tuple)):
        return ratings
    parts = parts_of(ratings)
    check_parts(parts, reading)
    futures = [client.submit(read_part, str(part), reading, key=f"read-part-{number}-{folder.name}")
               for number, part in enumerate(parts)]
    return convert([future.result for future in futures], folder / "ratings",
                   reading=Reading("user", "item", "rating", "weight"))


def read_part(path: str, reading: Reading) -> dict[str, np.ndarray]:
    """Read one file on a worker; return its columns by meaning."""
    found = read_columns(path, reading, n_threads=1)
    columns = {"user": found.users, "item": found.items, "rating": found.values,
               "weight": found.weights}
    return {name: column for name, column in columns.items() if column is not None}


@dataclass(frozen=True)
class Cluster:
    """Workers in place of the solvers of one machine: see `models.factorization.core.Backend`.

    Parameters
    ----------
    client, steps, ratings, scratch, bounds, verbose
        As in `BlockALS`.
    chunks : dict of str to ndarray, or None
        Those of `SharedALS`; None: factors are shipped.
    kept : path or None
        A folder for the factors, which then stay there.
    """

    client: Any
    steps: int
    ratings: str
    scratch: Path
    bounds: dict[str, list[int]]
    chunks: dict[str, np.ndarray] | None
    kept: Path | None
    verbose: int

    def vectors(self, side: str, n_rows: int, random: np.random.Generator, draw: Draw
                ) -> np.ndarray:
        """Return the first vectors of a side; in a file, drawn a chunk at a time, they are the
        same."""
        if self.kept is None:
            return draw(n_rows, random)
        self.kept.mkdir(exist_ok=True)
        few = draw(0, random)
        rows = Mapped.new(self.kept / f"{side}.factors.npy", (n_rows, few.shape[1]), few.dtype)
        for start, stop in row_chunks(n_rows, GRAM_ROWS):
            rows[start:stop] = draw(stop - start, random)
        return rows

    def solver(self, core: Core, sides: Sides, problem: Quadratic, seed: int) -> Solver:
        """Return what improves the factors, with all that workers need to know."""
        subtracts = getattr(core.observed, "subtracts", False)
        told = Sides(*(Side(side.name, side.averaged, bias=side.bias if subtracts else None)
                       for side in sides))
        features = {side.name: side.features for side in sides}
        given = (self.client, problem, core, told, self.ratings, self.scratch, self.bounds,
                 features, self.steps, self.verbose)
        return BlockALS(*given) if self.chunks is None else SharedALS(*given, chunks=self.chunks)
