"""A fit on a cluster gives the factors of one machine, whatever happens to the workers."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from naive import problem, random_problem
from threadpoolctl import threadpool_info

from mfcore import BPR, ImplicitMF, MatrixFactorization, Ratings, compiled, evaluate
from mfcore.data.chunks import is_mapped
from mfcore.data.features import one_hot
from mfcore.data.layout import Reading
from mfcore.parallel import GRAM_ROWS, Pool

pytest.importorskip("distributed", reason="needs dask.distributed")
if os.environ.get("NUMBA_DISABLE_JIT") not in (None, "", "0"):
    pytest.skip("plain Python is too slow for worker processes", allow_module_level=True)

from distributed import Client, LocalCluster, default_client  # noqa: E402

from mfcore import distributed  # noqa: E402
from mfcore.atomic import owned  # noqa: E402
from mfcore.distributed import blocks as tasks  # noqa: E402
from mfcore.distributed import cluster as checks  # noqa: E402
from mfcore.distributed import fitting, serving, sweeps  # noqa: E402
from mfcore.distributed.fitting import read_part  # noqa: E402
from mfcore.distributed.sweeps import (  # noqa: E402
    BlockALS,
    SharedALS,
    block_bounds,
    shared_bounds,
)
from mfcore.parallel import equal_cost_chunks  # noqa: E402
from mfcore.solvers import sample  # noqa: E402
from mfcore.solvers.als import row_cost  # noqa: E402
from mfcore.solvers.loop import Monitor, run  # noqa: E402

CELLS = 16_000
HOW = pytest.mark.parametrize("shared", [True, False], ids=["shared", "shipped"])


def ratings(weighted=False):
    random = np.random.default_rng(0)
    n, m, nnz = 3 * GRAM_ROWS - 700, 2 * GRAM_ROWS - 300, 60_000
    cells = random.choice(n * m, nnz, replace=False)
    matrix = sp.csr_array((random.integers(1, 11, nnz).astype(np.float32) / 2,
                           (cells // m, cells % m)), shape=(n, m))
    return Ratings(matrix, weights=random.random(nnz) if weighted else None)


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0",
                      memory_limit="1GB") as workers, Client(workers) as found:
        yield found


@pytest.fixture(scope="module")
def given():
    return ratings()


def copy_of(model):
    return type(model)(**model.get_params())


def same_fit(a, b, rtol=1e-9):
    for name in ("user_factors_", "item_factors_", "user_bias_", "item_bias_",
                 "user_feature_factors_"):
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None)
        assert one is None or np.array_equal(one, other), evidence(name, one, other)
    losses = [[record["loss"] for record in each.history_] for each in (a, b)]
    np.testing.assert_allclose(*losses, rtol=rtol)


def evidence(name, one, other):
    """Keep two arrays that should have the same bits; describe them, the kernels and BLAS."""
    kept = Path(tempfile.mkdtemp(prefix="other-bits-")) / f"{name}.npz"
    np.savez(kept, one=one, other=other)
    rows = np.flatnonzero((one != other).reshape(len(one), -1).any(axis=1))
    blas = {"client": threadpool_info(), **default_client().run(threadpool_info)}
    return (f"{name}: {len(rows)} of {len(one)} rows differ, kept in {kept}; the first is row "
            f"{rows[0]}: {one[rows[0]]}, {other[rows[0]]}\nkernels: {compiled.ready()}\n"
            f"BLAS: {blas}")


IMPLICIT = ImplicitMF(8, n_epochs=2, random_state=0)


@pytest.fixture(scope="module")
def here(given):
    """What one machine makes of the ratings."""
    return copy_of(IMPLICIT).fit(given)


@pytest.fixture(scope="module")
def fitted(client, given):
    return {shared: distributed.fit(copy_of(IMPLICIT), given, client=client, block_cells=CELLS,
                                    shared=shared) for shared in (True, False)}


@pytest.fixture(scope="module")
def in_files(client, given, tmp_path_factory):
    """Fitted on opened ratings, the factors left in files."""
    place = tmp_path_factory.mktemp("shared")
    given.write(place / "r")
    return distributed.fit(copy_of(IMPLICIT), place / "r", client=client, block_cells=CELLS,
                           factors=place / "factors")


def test_other_bits_are_kept_and_described(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    one = np.zeros((3, 2))
    other = one + [[0], [0], [1]]
    said = evidence("user_factors_", one, other)
    kept, = tmp_path.glob("*/user_factors_.npz")
    assert f"1 of 3 rows differ, kept in {kept}; the first is row 2: [0. 0.], [1. 1.]" in said
    assert said.count("num_threads") >= 3                 # of the client and two workers
    np.testing.assert_array_equal(np.load(kept)["other"], other)


@HOW
def test_a_cluster_gives_the_bits_of_one_machine(fitted, here, shared):
    same_fit(here, fitted[shared], rtol=0 if shared else 1e-9)
    assert not {"_solver_for", "_first_vectors"} & vars(fitted[shared]).keys()


@HOW
@pytest.mark.parametrize("model", [
    ImplicitMF(5, n_epochs=1, random_state=0, solver="cholesky"),
    ImplicitMF(5, n_epochs=1, random_state=0),
    MatrixFactorization(8, n_epochs=1, random_state=0),
    MatrixFactorization(16, n_epochs=1, random_state=0),
    MatrixFactorization(16, n_epochs=1, random_state=0, bias="mean", unknown_weight=0.1,
                        unknown_value="bias"),
], ids=["cholesky", "conjugate gradient", "learned biases", "no turning", "mean biases"])
def test_so_it_does_for_other_solvers_and_biases(client, given, model, shared):
    there = distributed.fit(copy_of(model), given, client=client, block_cells=CELLS,
                            shared=shared)
    same_fit(copy_of(model).fit(given), there, rtol=0 if shared else 1e-9)


@HOW
@pytest.mark.parametrize("model", [
    ImplicitMF(5, n_epochs=1, random_state=0, solver="cholesky"),
    MatrixFactorization(8, n_epochs=1, random_state=0)], ids=["cholesky", "learned biases"])
def test_so_it_does_for_fits_that_start_on_a_sample(client, given, model, shared, monkeypatch):
    without = copy_of(model).fit(given)
    monkeypatch.setattr(sample, "LEAST_CELLS", 5_000)
    with_sample = copy_of(model).fit(given)
    assert not np.array_equal(with_sample.item_factors_, without.item_factors_)
    there = distributed.fit(copy_of(model), given, client=client, block_cells=CELLS,
                            shared=shared)
    same_fit(with_sample, there, rtol=0 if shared else 1e-9)


@pytest.fixture(scope="module")
def weighted():
    """Weighted ratings, groups of their users, and what one machine makes of them."""
    data = ratings(weighted=True)
    groups = one_hot((np.arange(data.shape[0]) % 5).tolist(), "group")
    model = MatrixFactorization(8, n_epochs=1, random_state=0)
    return data, groups, model.fit(data, user_features=groups)


@HOW
def test_weights_and_group_priors_come_along(client, weighted, shared):
    data, groups, expected = weighted
    there = distributed.fit(copy_of(expected), data, client=client, block_cells=CELLS,
                            user_features=groups, shared=shared)
    same_fit(expected, there, rtol=0 if shared else 1e-9)


@HOW
def test_the_number_of_workers_changes_nothing(fitted, given, shared):
    with LocalCluster(n_workers=1, threads_per_worker=3, processes=False,
                      dashboard_address=":0") as one, Client(one) as other:
        a = distributed.fit(copy_of(IMPLICIT), given, client=other, block_cells=CELLS,
                            shared=shared)
    same_fit(a, fitted[shared], rtol=0)


def test_what_a_callback_changes_reaches_the_workers(client, given):
    def halve(model, record):
        model.item_factors_ /= 2

    expected = copy_of(IMPLICIT).fit(given, callbacks=[halve])
    same_fit(expected, distributed.fit(copy_of(IMPLICIT), given, client=client,
                                       callbacks=[halve]), rtol=0)


def test_tasks_of_two_calls_never_have_one_name(given, here, monkeypatch):
    """A scheduler that still knows a name would answer with the result of the first call."""
    for module in (sweeps, serving):
        monkeypatch.setattr(module, "id", lambda thing: 7, raising=False)   # as memory is reused
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as one, \
            Client(one) as own:
        submit, calls = own.submit, []
        monkeypatch.setattr(own, "submit", lambda *given, key, **options: (
            calls[-1].append(key), submit(*given, key=key, **options))[1])
        for call in [partial(distributed.fit, copy_of(IMPLICIT), shared=True),
                     partial(distributed.fit, copy_of(IMPLICIT), shared=False),
                     partial(distributed.recommend, here, k=3, users=None),
                     partial(distributed.evaluate, here, exclude_seen=False)] * 2:
            calls.append([])
            call(*([] if "users" in call.keywords else [given]), client=own)
    names = [name for each in calls for name in each]
    assert len(calls) == 8
    assert all(calls)
    assert len(set(names)) == len(names)


@HOW
def test_a_killed_worker_costs_its_share_of_an_epoch(client, given, shared):
    expected = copy_of(IMPLICIT).set_params(n_epochs=3).fit(given)
    before = set(client.run(os.getpid).values())
    done = threading.Event()

    def kill():
        done.wait(60)
        time.sleep(0.05)
        os.kill(min(before), signal.SIGKILL)            # its nanny starts another

    killer = threading.Thread(target=kill)
    killer.start()
    found = distributed.fit(copy_of(expected), given, client=client, block_cells=CELLS,
                            callbacks=[lambda model, record: done.set()], shared=shared)
    killer.join()
    same_fit(expected, found)
    client.wait_for_workers(2, timeout=300)     # (a busy machine takes its time)
    assert min(before) not in client.run(os.getpid).values()


@HOW
def test_a_worker_that_joins_takes_part(given, here, shared):
    with LocalCluster(n_workers=1, processes=False, threads_per_worker=1,
                      dashboard_address=":0") as workers, Client(workers) as own:
        def grow(model, record):
            workers.scale(2)
            own.wait_for_workers(2, timeout=60)

        found = distributed.fit(copy_of(IMPLICIT), given, client=own, block_cells=CELLS,
                                callbacks=[grow], shared=shared)
        done = own.run(lambda dask_worker: dask_worker.state.executed_count)
    assert len(done) == 2
    assert min(done.values()) > 0
    same_fit(here, found)


@HOW
def test_a_moment_in_which_no_worker_is_known_changes_nothing(client, given, here, shared,
                                                              monkeypatch):
    """As when the only worker is being replaced, or the client drops what it knew of them."""
    monkeypatch.setattr(client, "nthreads", dict)
    monkeypatch.setattr(client, "scheduler_info", lambda n_workers=-1: {"workers": {}})
    found = distributed.fit(copy_of(IMPLICIT), given, client=client, block_cells=CELLS,
                            shared=shared)
    same_fit(here, found, rtol=0 if shared else 1e-9)


def test_factors_stay_in_files_that_workers_map(client, given, in_files, here):
    model = in_files
    assert is_mapped(model.user_factors_)
    assert len(pickle.dumps(model.user_factors_)) < 1000
    for rows in (slice(None), slice(7, 9)):
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model.user_factors_[rows])),
                                      here.user_factors_[rows])
    np.testing.assert_array_equal(np.load(model.item_factors_.filename), here.item_factors_)
    ids, _ = distributed.recommend(model, [5, 5000], k=3, client=client)
    np.testing.assert_array_equal(ids, here.recommend([5, 5000], k=3)[0])
    assert distributed.evaluate(model, given, client=client, exclude_seen=False, k=5) == \
        evaluate(here, given, exclude_seen=False, k=5)
    with pytest.raises(FileExistsError):
        distributed.fit(copy_of(IMPLICIT), given, client=client,
                        factors=Path(model.user_factors_.filename).parent)


@HOW
def test_a_fit_goes_on_with_another_scheduler(client, given, tmp_path, shared):
    model = ImplicitMF(8, n_epochs=3, random_state=0)
    path = tmp_path / "checkpoint"

    def fail(model, record):
        if record["epoch"] == 2:
            raise ConnectionError("the scheduler is gone")

    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as first, \
            Client(first) as lost, pytest.raises(ConnectionError):
        distributed.fit(copy_of(model), given, client=lost, block_cells=CELLS, checkpoint=path,
                        callbacks=[fail], shared=shared)
    assert path.exists()
    found = distributed.fit(copy_of(model), given, client=client, block_cells=CELLS,
                            checkpoint=path, shared=shared)
    same_fit(copy_of(model).fit(given), found)
    assert not path.exists()


def test_workers_read_a_folder_of_parts(client, given, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"user": given.users_of_cells, "item": given.by_user.indices,
               "rating": given.by_user.data}
    for part in range(3):
        pq.write_table(pa.table({name: column[part::3] for name, column in columns.items()}),
                       tmp_path / f"{part}.parquet")
    whole = Ratings.from_arrays(*columns.values())
    found = distributed.fit(copy_of(IMPLICIT), tmp_path, client=client, block_cells=CELLS)
    same_fit(copy_of(IMPLICIT).fit(whole), found)
    pq.write_table(pa.table({"user": [1], "thing": [2]}), tmp_path / "9.parquet")
    with pytest.raises(ValueError, match=r"9\.parquet has user"):
        distributed.fit(copy_of(IMPLICIT), tmp_path, client=client)


def test_opened_ratings_are_read_where_they_lie(here, in_files):
    assert in_files.ratings_.folder
    same_fit(here, in_files, rtol=0)


def test_lists_and_measures_are_those_of_one_machine(client, given, here):
    model = here
    (ours, best), (there, found) = model.recommend(k=3), distributed.recommend(
        model, k=3, client=client, block_users=2000)
    np.testing.assert_allclose(found, best, rtol=1e-5)          # (as between batches of users)
    assert np.mean(ours == there) > 0.999
    options = {"exclude_seen": False, "metrics": [
        "ndcg@5", "rmse", "ndcg_graded@5", "mcc@5", "novelty@5", "serendipity@5", "gini@5"]}
    assert distributed.evaluate(model, given, client=client, **options) == \
        evaluate(model, given, **options)
    each = {**options, "metrics": ["ndcg@5", "mae"], "per_user": True}
    there, here = (one(model, given, **each) for one in (
        partial(distributed.evaluate, client=client), evaluate))
    for key, values in here.items():
        np.testing.assert_array_equal(there[key], values)


@pytest.mark.parametrize(("shared", "names"), [
    (True, ["read-users", "gram-items", "turn-items", "solve-users", "solve-items"]),
    (False, ["begin-items", "gram-items", "turn-items", "ship-to-users", "solve-users",
             "store-users"])], ids=["shared", "shipped"])
def test_tasks_have_names_and_progress_shows(given, capsys, shared, names):
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0") as workers, \
            Client(workers) as own:
        distributed.fit(copy_of(IMPLICIT).set_params(verbose=1, n_epochs=1), given, client=own,
                        shared=shared)
        known = own.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.task_prefixes))
    shown = capsys.readouterr().err
    assert "solve users" in shown
    assert "fit" in shown
    assert set(names) <= set(known)


def test_rows_that_a_block_wants_are_picked_where_they_are(client, given, monkeypatch):
    submit, place, picked = BlockALS._submit, {}, []

    def noted(self, function, name, number, *arguments, part=0):
        if function is tasks.ship:
            picked.append((place[arguments[0].key], number))
        made = submit(self, function, name, number, *arguments, part=part)
        place[made.key] = number
        return made

    monkeypatch.setattr(BlockALS, "_submit", noted)
    distributed.fit(copy_of(IMPLICIT).set_params(n_epochs=1), given, client=client,
                    block_cells=CELLS, shared=False)
    assert len({home for home, _ in picked}) > 1
    assert all(home == at for home, at in picked)


@pytest.mark.soak
def test_a_worker_without_memory_spills_and_loses_nothing():
    random = np.random.default_rng(0)
    n, m = 40_000, 20_000
    cells = np.unique(random.integers(0, n * m, 4_000_000))
    matrix = sp.csr_array((np.ones(len(cells), np.float32), (cells // m, cells % m)), shape=(n, m))
    model, on_disk = ImplicitMF(64, n_epochs=2, random_state=0), []
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0",
                      memory_limit="420MB") as workers, Client(workers) as own:
        def look(model, record):
            worker, = own.scheduler_info(n_workers=-1)["workers"].values()
            on_disk.append(worker["metrics"]["spilled_bytes"]["disk"])

        found = distributed.fit(copy_of(model), matrix, client=own, block_cells=300_000,
                                callbacks=[look], shared=False)
    assert max(on_disk) > 0
    same_fit(copy_of(model).fit(matrix), found)


@pytest.mark.soak
def test_the_documented_command_starts_a_cluster_and_fits(given, tmp_path):
    command = re.search(r"```sh\n(python -c .*?)```", TEXT, re.DOTALL)[1]
    given.write(tmp_path / "plays.folder")
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True,
                          timeout=300, check=True, env={**os.environ, "PATH": search})
    assert "'loss'" in done.stdout
    assert "solve users" in done.stderr


# ------------------------------------------------------------------------------- refusals

def test_a_cluster_of_another_version_is_refused_before_any_work(client, given, monkeypatch):
    monkeypatch.setattr(checks.mfcore, "__version__", "9.9")
    with pytest.raises(RuntimeError, match=r"must have mfcore 9\.9, as here: tcp.*has mfcore 0"):
        distributed.fit(copy_of(IMPLICIT), given, client=client)


class Elsewhere:
    """A client whose workers answer as told."""

    def __init__(self, found):
        self.found = found

    def run(self, function):
        return self.found


@pytest.mark.parametrize(("found", "match"), [
    ({}, "no workers"), ({"a": ""}, "a has no mfcore"), ({"a": "0.0.1"}, r"a has mfcore 0\.0\.1")])
def test_a_cluster_that_cannot_work_is_refused(found, match):
    with pytest.raises(RuntimeError, match=match):
        checks.check_versions(Elsewhere(found))


def test_an_exact_fit_that_fails_in_its_first_epoch_is_finished_by_an_exact_half_sweep(
        monkeypatch):
    dense, at = random_problem(1)
    solver = BlockALS(None, problem(dense), None, None, "", Path(), {}, {}, steps=0)
    asked = []

    def half(self, side, at, rows, steps, *, ends=False):
        asked.append((side, steps, ends))
        if len(asked) == 1:
            solver._sweeps = 1
            raise OSError("no space")
        return None, None, 0.0

    monkeypatch.setattr(BlockALS, "_half", half)
    monkeypatch.setattr(BlockALS, "_begin", lambda self, side, at: None)
    with Pool(1) as pool, pytest.raises(OSError, match="no space"):
        run(solver, at, pool, 2, Monitor())
    assert asked == [("item", 1, False), ("user", 0, True)]


def test_blocks_that_cannot_fit_a_worker_are_refused_with_a_size_that_would(given):
    with pytest.raises(ValueError, match=r"takes about 5\.0 MB.*has 0\.6 MB.*block_cells=480 "):
        checks.check_room({"user": 5_000_000, "item": 10}, 5000, 1_000_000)
    with LocalCluster(n_workers=1, processes=False, dashboard_address=":0",
                      memory_limit="1MB") as small, Client(small) as own, \
            pytest.raises(ValueError, match="would fit"):
        distributed.fit(copy_of(IMPLICIT), given, client=own)


@pytest.mark.parametrize(("model", "error"), [
    (BPR(), TypeError), (ImplicitMF(solver="subspace"), ValueError),
    (MatrixFactorization(loss="logistic", solver="sgd"), ValueError)])
def test_models_that_have_no_blocks_are_refused(model, error):
    with pytest.raises(error):
        distributed.fit(model, sp.csr_array(np.eye(3)))


def test_whether_to_share_is_told_by_true_or_false():
    with pytest.raises(TypeError, match="shared must be True or False, got 'no'"):
        distributed.fit(copy_of(IMPLICIT), sp.csr_array(np.eye(3)), client=object(), shared="no")


# -------------------------------------------------------------------------------- the parts

def test_blocks_begin_at_chunks_and_hold_about_equal_cells(given):
    indptr = given.by_user.indptr
    bounds = block_bounds(indptr, CELLS)
    assert bounds[0] == 0
    assert bounds[-1] == given.shape[0]
    assert all(bound % GRAM_ROWS == 0 for bound in bounds[:-1])
    assert len(bounds) == 4


def test_shared_blocks_are_runs_of_the_chunks_of_one_machine_and_cost_the_same(given):
    indptr = given.by_user.indptr
    chunks, bounds = shared_bounds(indptr, 8, 10**9, 1)
    np.testing.assert_array_equal(chunks, equal_cost_chunks(indptr, row_cost(8)))
    assert (bounds[0], bounds[-1]) == (0, given.shape[0])
    assert any(bound % GRAM_ROWS for bound in bounds[1:-1])
    cost = np.diff(indptr[bounds] + row_cost(8) * np.asarray(bounds))
    assert len(cost) == 4
    assert cost.max() - cost.min() <= 2 * (8_000 + indptr[-1] / 14)
    assert len(shared_bounds(indptr, 8, 6_000, 1)[1]) == 11


def test_neighbours_of_a_block_keep_their_rows(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((5, 3), np.float32))
    tasks.put_rows(tmp_path / "rows.npy", 2, np.ones((3, 2))[:2, :1] * np.arange(1, 4))
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy")[:, 2], [0, 0, 3, 3, 0])


@pytest.mark.parametrize(("machines", "solver"), [
    ([checks.machine()] * 2, SharedALS), ([checks.machine(), "another"], BlockALS),
    (["another"] * 2, BlockALS)])
def test_factors_are_shared_where_all_workers_are_on_this_machine(
        client, given, monkeypatch, machines, solver):
    made, run = [], client.run
    monkeypatch.setattr(client, "run", lambda function, *rest: dict(enumerate(machines))
                        if function is checks.machine else run(function, *rest))
    monkeypatch.setattr(BlockALS, "epoch", lambda self, at, pool: made.append(type(self)) or 0.0)
    monkeypatch.setattr(BlockALS, "finish", lambda self, at, pool: None)
    distributed.fit(copy_of(IMPLICIT).set_params(n_epochs=1), given, client=client)
    assert made == [solver]


@pytest.mark.skipif(not checks.BOOT.exists(), reason="a system that does not name its start")
def test_a_machine_has_one_name_without_a_network_and_another_than_its_twin(monkeypatch, tmp_path):
    addresses = iter(range(9))
    monkeypatch.setattr(checks.uuid, "getnode", lambda: next(addresses))    # (drawn, without one)
    name = checks.machine()
    assert checks.machine() == name
    monkeypatch.setattr(checks, "BOOT", tmp_path / "boot")
    assert len({name, checks.machine(), checks.machine()}) == 3
    (tmp_path / "boot").write_text("another")
    assert checks.machine() not in (name, "")


def test_two_fits_do_not_fill_one_folder_of_factors(tmp_path):
    with owned(tmp_path / "factors", "keeps the factors of a fit there"), \
            pytest.raises(BlockingIOError, match="factors is in use: process .* keeps the factors"):
        distributed.fit(copy_of(IMPLICIT), ratings(), factors=tmp_path / "factors")
    assert list(tmp_path.iterdir()) == []


def test_a_scratch_folder_that_is_missing_is_named(client, given, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*none"):
        distributed.fit(copy_of(IMPLICIT), given, client=client, scratch=tmp_path / "none")


def test_a_fit_removes_what_a_killed_one_has_left_in_its_scratch_folder(client, given, tmp_path):
    (tmp_path / ".mfcore-0123456789abcdef.part").mkdir()
    (tmp_path / ".mfcore-0123456789abcdef.part" / "rows").write_bytes(b"half")
    distributed.fit(copy_of(IMPLICIT), given, client=client, scratch=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_workers_elsewhere_find_a_scratch_folder_that_is_named_from_here(
        client, given, here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    same_fit(here, distributed.fit(copy_of(IMPLICIT), given, client=client, scratch="a folder"))
    assert list((tmp_path / "a folder").iterdir()) == []


def test_without_a_client_a_cluster_of_this_machine_is_started(given, here, monkeypatch):
    import distributed as dask
    monkeypatch.setattr(dask, "Client", partial(Client, processes=False, dashboard_address=":0"))
    same_fit(here, distributed.fit(copy_of(IMPLICIT), given), rtol=0)


def test_a_part_is_read_with_its_columns(tmp_path):
    (tmp_path / "a.csv").write_text("who,what\n1,2\n")
    found = read_part(str(tmp_path / "a.csv"), Reading("who", "what", None))
    assert found["user"].tolist() == [1]
    assert set(found) == {"user", "item"}


@pytest.mark.parametrize(("suffix", "zone"), [("csv", None), ("parquet", None), ("parquet", "UTC")])
def test_files_that_workers_read_keep_their_times(tmp_path, suffix, zone):
    pandas = pytest.importorskip("pandas")
    moments = [[1_000_000_100, 1_000_000_300], [1_000_000_200, 1_000_000_000]]
    for part, some in enumerate(moments):
        frame = pandas.DataFrame({"user": [part, part], "item": [1, 0], "timestamp": some})
        if suffix == "parquet":
            pytest.importorskip("pyarrow")
            frame["timestamp"] = pandas.to_datetime(frame["timestamp"], unit="s").dt.tz_localize(
                zone)
        (frame.to_csv if suffix == "csv" else frame.to_parquet)(
            tmp_path / f"{part}.{suffix}", index=False)

    class Here:
        def submit(self, function, *given, key):
            def result():
                return pickle.loads(pickle.dumps(function(*given)))
            result.identity = key
            return SimpleNamespace(result=result)

    reading = Reading(rating=None, timestamp="timestamp")
    parts = [tmp_path / f"{part}.{suffix}" for part in range(2)]
    found = fitting._opened(parts, tmp_path, Here(), reading)
    assert found.moments.seconds.tolist() == [1_000_000_300, 1_000_000_100, 1_000_000_000,
                                              1_000_000_200]
    assert found.moments.aware == (zone is not None)


def test_the_plan_adds_up_and_names_its_bottleneck():
    small = distributed.plan(10**8, 10**7, 10**11, 64, 10)
    large = distributed.plan(10**8, 10**7, 10**11, 64, 1000)
    assert small.bottleneck == "computing"
    assert large.bottleneck == "coordinating"
    assert small.flops == pytest.approx(large.flops)
    assert large.worker_bytes < small.worker_bytes
    assert distributed.plan(10, 10, 100, 4, 1).shipped_bytes == 0
    assert small.seconds == small.computing + small.shipping + small.coordinating


def test_workers_of_one_machine_share_its_processors_and_one_copy_of_the_factors():
    sizes = (140_000, 27_000, 20_000_000, 64)
    two, four = (distributed.plan(*sizes, workers, processors=2, shared=True)
                 for workers in (2, 4))
    assert two.computing == four.computing
    assert two.computing < distributed.plan(*sizes, 4, processors=1, shared=True).computing
    assert two.shipped_bytes == four.shipped_bytes == 0
    assert four.worker_bytes > 140_000 * 64 * 4
    assert distributed.plan(*sizes, 2).shipped_bytes > 0


# --------------------------------------------------------------------- the documentation

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "cluster.json"
TEXT = (Path(__file__).parents[1] / "docs" / "distributed.md").read_text("utf-8")


def test_the_tables_of_the_documentation_are_those_of_the_result_file_and_of_the_plan():
    from benchmarks.cluster import measured_table, plan_table

    for line in measured_table(json.loads(RESULTS.read_text())) + plan_table():
        assert line in TEXT


def test_the_documentation_states_how_well_the_plan_foretold_what_was_measured():
    from benchmarks.cluster import foretold

    for line in foretold(json.loads(RESULTS.read_text())):
        assert line in TEXT
