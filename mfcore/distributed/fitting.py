"""`fit` on a cluster: the fit of one machine with another solver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any, TypeVar

import numpy as np

from mfcore import validation
from mfcore.atomic import absent, owned, scratch_folder
from mfcore.data.chunks import Mapped
from mfcore.data.convert import convert
from mfcore.data.folder import HEADER
from mfcore.data.layout import Reading
from mfcore.data.ratings import Ratings
from mfcore.data.readers import check_parts, parts_of, read_columns
from mfcore.distributed import cluster as checks
from mfcore.distributed.planning import block_bytes
from mfcore.distributed.sweeps import BlockALS, SharedALS, block_bounds, shared_bounds
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
        A path is a folder made by `Ratings.write` or `mfcore convert`, or ratings files and
        folders of them (csv, parquet, ...), which the workers then read.
    client : dask.distributed.Client or None
        None: a cluster of this machine, one process per CPU, which ends with the fit.
    block_cells : int, >= 1
        Approximate number of ratings in a block.  If factors are shipped, the blocks depend only
        on the ratings and this number; if they are shared, it is an upper limit, and the number
        of threads decides.
    scratch : path or None
        A folder that client and workers see under the same name, for what they exchange; None:
        one in the temporary folder, which is enough for a cluster of this machine.
    factors : path or None
        A folder to make, seen by client and workers under the same name, in which the factors
        stay: `user_factors_` and `item_factors_` are mapped from files, and `recommend` and
        `evaluate` of this module ship only the names of these.  None: the client holds them.
    reading : mfcore.data.layout.Reading or None
        Columns of files.
    shared : bool or None
        True: workers map one copy of the factors from files in `scratch`.  False: each ships to
        the others the rows that they want.  None: share if all workers are on this machine.
    **options
        Of `model.fit`: user_features, item_features, eval_set, callbacks, checkpoint.

    Returns
    -------
    model : the same, with the factors of `model.fit(ratings, **options)` to the last bit, for
        any number of workers; the loss, too, if factors are shared, else up to rounding.

    Raises
    ------
    RuntimeError
        For a cluster without workers, without mfcore or with another version of it.
    ValueError
        For blocks that do not fit a worker (it says which would), and parts with other columns.
    FileExistsError, BlockingIOError
        The folder `factors` is there, or another fit is about to fill it.

    Notes
    -----
    With `checkpoint=` a fit whose scheduler or client died resumes when called again with
    another client, to the same bits.  A worker that dies costs its share of an epoch.
    """
    _check_model(model)
    validation.integer("block_cells", block_cells, low=1)
    if shared is not None:
        validation.boolean("shared", shared)
    place = Path(os.path.abspath(gettempdir() if scratch is None else scratch))
    with _folder_for(factors) as kept, checks.connected(client) as cluster, \
            scratch_folder(place) as folder:
        checks.check_versions(cluster)
        given = _opened(ratings, folder, cluster, reading or Reading())
        training = training_ratings(given, None)
        indptr = {"user": training.by_user.indptr, "item": training.by_item.indptr}
        chunks, spans = _cut(indptr, model.n_factors, block_cells, cluster, shared)
        most = block_bytes(training, spans, model.n_factors, np.dtype(model.dtype).itemsize)
        checks.check_room(most, block_cells, checks.least_memory(cluster))
        if training.folder is None:
            training.write(folder / "ratings")
        backend = Cluster(cluster, model.cg_steps if model.solver == "cg" else 0,
                          training.folder or str(folder / "ratings"), folder, spans, chunks, kept,
                          model.verbose)
        fitted: Model = train(model, training, backend=backend, **options)
        return fitted


@contextmanager
def _folder_for(factors: Any) -> Iterator[Path | None]:
    """Return the folder to make for the factors, owned meanwhile; None if there is to be none."""
    if factors is None:
        yield None
        return
    absent(factors)
    with owned(factors, "keeps the factors of a fit there"):
        yield absent(factors)           # (whoever had it before may have made it)


def _cut(indptr: dict[str, np.ndarray], k: int, block_cells: int, client: Any,
         shared: bool | None) -> tuple[dict[str, np.ndarray] | None, dict[str, list[int]]]:
    """Return the chunks of both sides if factors are shared, else None; and the blocks."""
    if not (checks.on_this_machine(client) if shared is None else shared):
        return None, {side: block_bounds(each, block_cells) for side, each in indptr.items()}
    cuts = {side: shared_bounds(each, k, block_cells, checks.thread_total(client))
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


def _opened(ratings: Any, folder: Path, client: Any, reading: Reading) -> Any:
    """Return the Ratings of a path, read by the workers if it names files; else the argument."""
    if isinstance(ratings, (str, os.PathLike)) and Path(ratings, HEADER).exists():
        return Ratings.open(ratings)
    if not isinstance(ratings, (str, os.PathLike, list, tuple)):
        return ratings
    parts = parts_of(ratings)
    check_parts(parts, reading)
    futures = [client.submit(read_part, str(part), reading, key=f"read-part-{number}-{folder.name}")
               for number, part in enumerate(parts)]
    return convert([future.result for future in futures], folder / "ratings",
                   reading=Reading("user", "item", None if reading.rating is None else "rating",
                                   None if reading.weight is None else "weight",
                                   timestamp=None if reading.timestamp is None else "timestamp"))


def read_part(path: str, reading: Reading) -> dict[str, Any]:
    """Read one file on a worker; return its columns by meaning."""
    found = read_columns(path, reading, n_threads=1)
    columns = {"user": found.users, "item": found.items, "rating": found.values,
               "weight": found.weights, "timestamp": found.timestamps}
    return {name: column for name, column in columns.items() if column is not None}


@dataclass(frozen=True)
class Cluster:
    """Workers in place of the solvers of one machine: see `models.factorization.core.Backend`.

    Parameters
    ----------
    client, steps, ratings, scratch, bounds, verbose
        As in `BlockALS`.
    chunks : dict of str to ndarray, or None
        As in `SharedALS`; None: factors are shipped.
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
    verbose: int | None

    def vectors(self, side: str, n_rows: int, random: np.random.Generator, draw: Draw
                ) -> np.ndarray:
        """Return the first vectors of a side; a file is drawn in chunks, with the same result."""
        if self.kept is None:
            return draw(n_rows, random)
        self.kept.mkdir(exist_ok=True)
        few = draw(0, random)
        rows = Mapped.new(self.kept / f"{side}.factors.npy", (n_rows, few.shape[1]), few.dtype)
        for start, stop in row_chunks(n_rows, GRAM_ROWS):
            rows[start:stop] = draw(stop - start, random)
        return rows

    def solver(self, core: Core, sides: Sides, problem: Quadratic, seed: int) -> Solver:
        """Return the solver, with all that workers need to know of the model."""
        subtracts = getattr(core.observed, "subtracts", False)
        told = Sides(*(Side(side.name, side.averaged, bias=side.bias if subtracts else None)
                       for side in sides))
        features = {side.name: side.features for side in sides}
        given = (self.client, problem, core, told, self.ratings, self.scratch, self.bounds,
                 features, self.steps, self.verbose)
        return BlockALS(*given) if self.chunks is None else SharedALS(*given, chunks=self.chunks)
