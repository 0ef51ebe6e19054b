"""Chunks depend on the data alone, results on neither threads nor company."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from mfcore import parallel
from mfcore.parallel import Pool

THREADS = [1, 2, 8]


def blas_threads() -> set[int]:
    """Threads that the loaded BLAS libraries would use now."""
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    """BLAS at two threads, also on a machine of one core, where no change would show."""
    with threadpool_limits(2, "blas"):
        if blas_threads() != {2}:
            pytest.skip(f"this BLAS cannot be set to two threads, it says {blas_threads()}")
        yield


# ------------------------------------------------------------------------------- chunks


@st.composite
def pointers(draw) -> np.ndarray:
    """CSR row pointers: empty rows, no rows, and now and then a very long one."""
    lengths = draw(st.lists(st.sampled_from([0, 0, 1, 2, 5, 40, 900]), max_size=40))
    dtype = draw(st.sampled_from([np.int32, np.int64]))
    return np.concatenate([[0], np.cumsum(lengths)]).astype(dtype)


@pytest.fixture(scope="module", autouse=True)
def small_chunks():
    """Chunks small enough for small inputs to have several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "CHUNK_CELLS", 50)
        patch.setattr(parallel, "MAX_CHUNKS", 6)
        yield


@given(pointers(), st.sampled_from([0.0, 1.0, 16.0]))
def test_chunks_cover_each_row_once(indptr, per_row):
    bounds = parallel.equal_cost_chunks(indptr, per_row)
    assert bounds.dtype == np.int64
    assert bounds[0] == 0
    assert bounds[-1] == len(indptr) - 1
    if len(indptr) > 1:
        assert (np.diff(bounds) > 0).all()
    assert len(bounds) - 1 <= 6


@given(pointers(), st.sampled_from([1.0, 16.0]))
def test_no_chunk_costs_more_than_the_mean_and_a_row(indptr, per_row):
    bounds = parallel.equal_cost_chunks(indptr, per_row)
    cost = np.asarray(indptr, float) + per_row * np.arange(len(indptr))
    n_chunks = np.clip(cost[-1] // 50, 1, 6)
    longest = np.diff(cost).max(initial=0)
    assert np.diff(cost[bounds]).max() <= cost[-1] / n_chunks + longest + 1e-9


def test_many_cells_make_several_chunks():
    bounds = parallel.equal_cost_chunks(np.arange(0, 1001, 10), 0.0)
    assert bounds.tolist() == [0, 17, 34, 50, 67, 84, 100]


@given(pointers())
def test_chunks_do_not_depend_on_the_index_type(indptr):
    np.testing.assert_array_equal(parallel.equal_cost_chunks(indptr.astype(np.int32)),
                                  parallel.equal_cost_chunks(indptr.astype(np.int64)))


@pytest.mark.parametrize(("n_rows", "expected"), [
    (0, []), (3, [(0, 3)]), (4, [(0, 4)]), (9, [(0, 4), (4, 8), (8, 9)])])
def test_row_chunks_are_of_one_size_but_the_last(n_rows, expected):
    assert parallel.row_chunks(n_rows, 4) == expected


# --------------------------------------------------------------------------------- pool


def test_without_a_number_the_cpus_of_this_process_are_used():
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert parallel.thread_count(None) == usable
    assert parallel.thread_count(3) == 3


@pytest.mark.parametrize("wrong", [0, -1, 5000])
def test_a_number_of_threads_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=r"n_threads must be in \[1, 4096\]"):
        Pool(wrong)


@pytest.mark.parametrize("wrong", [1.0, True, "2"])
def test_a_number_of_threads_of_another_type_is_refused(wrong):
    with pytest.raises(TypeError, match="n_threads must be an integer"):
        Pool(wrong)


@pytest.mark.parametrize("n_threads", THREADS)
def test_results_come_in_the_order_of_the_arguments(n_threads):
    def slow_if_early(i: int, j: int) -> tuple[int, int]:
        time.sleep(0.002 * (5 - i))
        return i, j

    calls = [(i, -i) for i in range(6)]
    with Pool(n_threads) as pool:
        assert pool.map(slow_if_early, calls) == calls
        assert pool.map(slow_if_early, calls, cost=range(6)) == calls
        assert pool.map(slow_if_early, []) == []


def test_the_dearest_calls_start_first():
    started, pair = [], threading.Barrier(2, timeout=20)

    def call(i: int) -> None:
        started.append(i)
        pair.wait()

    with Pool(2) as pool:
        pool.map(call, [(i,) for i in range(6)], cost=[1, 5, 3, 4, 0, 2])
    assert [set(started[t:t + 2]) for t in (0, 2, 4)] == [{1, 3}, {2, 5}, {0, 4}]


def test_calls_run_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    with Pool(2) as pool:
        assert sorted(pool.map(both.wait, [(), ()])) == [0, 1]


def test_a_single_call_runs_where_it_is_made():
    with Pool(2) as pool:
        assert pool.map(threading.get_ident, [()]) == [threading.get_ident()]


@pytest.mark.parametrize("n_threads", THREADS)
def test_an_error_leaves_as_it_is_and_queued_calls_are_dropped(n_threads):
    ran = []

    def call(i: int) -> None:
        ran.append(i)
        if i == 0:
            raise ZeroDivisionError("chunk 0")
        time.sleep(0.01)

    with Pool(n_threads) as pool, pytest.raises(ZeroDivisionError, match="chunk 0"):
        pool.map(call, [(i,) for i in range(200)])
    assert len(ran) < 100


def test_a_pool_works_on_after_an_error():
    with Pool(2) as pool:
        with pytest.raises(TypeError):
            pool.map(len, [(1,), ([1],)])
        assert pool.map(len, [([1, 2],), ([1],)]) == [2, 1]


def test_running_calls_finish_before_the_error_leaves():
    running, finished = threading.Event(), threading.Event()

    def fail() -> None:
        assert running.wait(20)
        raise ZeroDivisionError

    def go_on() -> None:
        running.set()
        time.sleep(0.2)
        finished.set()

    with Pool(2) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.map(lambda call: call(), [(fail,), (go_on,)])
        assert finished.is_set()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals between threads")
@pytest.mark.parametrize("after", [0, 0.05], ids=["while submitting", "while waiting"])
def test_an_interrupt_drops_queued_calls_and_waits_for_running_ones(after):
    if threading.current_thread() is not threading.main_thread():
        pytest.skip("interrupts reach the main thread only")
    begun, finished = [], []

    def call(i: int) -> None:
        begun.append(i)
        # Python may miss a signal just as it begins to wait; then a later call repeats it.
        if i % 10 == 0:
            time.sleep(after)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.1)
        finished.append(i)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Pool(2) as pool:
            with pytest.raises(KeyboardInterrupt):
                pool.map(call, [(i,) for i in range(100)])
            assert sorted(begun) == sorted(finished)
            assert 0 in finished
            time.sleep(0.2)
            assert len(begun) == len(finished) < 50
    finally:
        signal.signal(signal.SIGINT, before)


# ----------------------------------------------------------------------------- BLAS guard


def test_blas_is_held_at_one_thread_and_let_go(two_blas_threads):
    with Pool(1):
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with Pool(2):
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_the_blas_that_kernels_call_is_held_from_the_first_pool_on():
    script = ("import numpy as np, threadpoolctl\n"
              "from mfcore.kernels.nn_rows import add_products\n"
              "from mfcore.parallel import Pool\n"
              "X, place = np.ones((4, 4)), np.zeros(4, int)\n"
              "with Pool(2):\n"
              "    add_products(X, X, place, X.copy())\n"
              "    found = threadpoolctl.threadpool_info()\n"
              "print(*{each['num_threads'] for each in found if each['user_api'] == 'blas'})")
    env = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    found = subprocess.run([sys.executable, "-c", script], env=env, check=True, text=True,
                           capture_output=True).stdout
    assert found.split() == ["1"]


def test_the_guard_nests(two_blas_threads):
    with Pool(1):
        with Pool(1), Pool(1):
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_the_guard_is_let_go_after_an_error(two_blas_threads):
    with pytest.raises(ZeroDivisionError), Pool(1):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), Pool(2) as pool:
        pool.map(divmod, [(1, 0)])
    assert blas_threads() == {2}


class Library:
    """A BLAS of two threads; the calls that set them to `refused` raise, as often as stated."""

    def __init__(self, refused, times):
        self.num_threads, self.refused, self.times = 2, refused, times

    def set_num_threads(self, n):
        if n == self.refused and self.times:
            self.times -= 1
            raise MemoryError
        self.num_threads = n


@pytest.fixture
def guard_of(monkeypatch):
    """A guard of its own for pools, which finds the given libraries."""
    def made(*libraries):
        guard = parallel._BlasGuard()
        controller = SimpleNamespace(select=lambda **_: SimpleNamespace(
            lib_controllers=list(libraries)))
        monkeypatch.setattr(parallel, "ThreadpoolController", lambda: controller)
        monkeypatch.setattr(parallel, "_guard", guard)
        return guard
    return made


def test_a_pool_without_memory_for_its_guard_leaves_every_blas_as_it_was(guard_of):
    libraries = Library(1, 0), Library(1, 1)
    guard = guard_of(*libraries)
    with pytest.raises(MemoryError), Pool(2):
        pass
    assert ([each.num_threads for each in libraries], guard._holders) == ([2, 2], 0)
    with Pool(2):
        assert [each.num_threads for each in libraries] == [1, 1]
    assert [each.num_threads for each in libraries] == [2, 2]


def test_blas_is_let_go_at_the_second_attempt(guard_of):
    library = Library(2, 1)
    guard_of(library)
    with Pool(1):
        pass
    assert library.num_threads == 2


def test_what_could_not_be_let_go_is_by_the_next_work(guard_of):
    library = Library(2, 2)
    guard_of(library)
    with pytest.raises(MemoryError), Pool(1):
        pass
    assert library.num_threads == 1
    with Pool(1):
        pass
    assert library.num_threads == 2


def test_the_last_of_two_threads_lets_go(two_blas_threads):
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with Pool(1):
            inside.set()
            leave.wait(20)

    other = threading.Thread(target=hold)
    with Pool(1):
        other.start()
        assert inside.wait(20)
    # The first in is the first out; the other is still inside.
    assert blas_threads() == {1}
    leave.set()
    other.join()
    assert blas_threads() == {2}


def test_many_threads_in_and_out_leave_blas_as_it_was(two_blas_threads):
    seen = []

    def in_and_out() -> None:
        for _ in range(20):
            with Pool(1):
                seen.append(blas_threads())

    threads = [threading.Thread(target=in_and_out) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{1}] * 80
    assert blas_threads() == {2}


# -------------------------------------------------------------------------------- products


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    # Three chunks, the last one short.
    return np.random.default_rng(0).normal(size=(20_001, 33)).astype(np.float32)


def test_a_gram_has_the_same_bits_on_any_number_of_threads(factors):
    grams = []
    for n_threads in THREADS:
        with Pool(n_threads) as pool:
            grams.append(parallel.gram(factors, pool))
    assert grams[0].dtype == np.float64
    assert grams[0].tobytes() == grams[1].tobytes() == grams[2].tobytes()
    exact = factors.astype(np.float64)
    np.testing.assert_allclose(grams[0], exact.T @ exact, rtol=1e-5, atol=0.05)


def test_chunks_of_a_gram_are_summed_in_float64():
    # In float32 the 2**24 + 1 would be lost when the chunks are added.
    X = np.ones((2**14 + 1, 1), np.float32) * 2**5
    X[-1] = 1
    with Pool(2) as pool:
        assert parallel.gram(X, pool)[0, 0] == 2**24 + 1


def test_columns_beside_and_a_precision_can_be_given(factors):
    ones = np.ones(len(factors))
    with Pool(2) as pool:
        gram = parallel.gram(factors, pool, beside=(ones,), dtype=np.float64)
    whole = np.column_stack([factors, ones])
    np.testing.assert_allclose(gram, whole.T @ whole, rtol=1e-12, atol=1e-10)


def test_the_gram_of_no_rows_is_zero():
    with Pool(2) as pool:
        np.testing.assert_array_equal(parallel.gram(np.empty((0, 3)), pool), np.zeros((3, 3)))


def test_a_tiled_product_has_the_same_bits_on_any_number_of_threads(factors):
    Y = np.random.default_rng(1).normal(size=(33, 20)).astype(np.float32)
    products = []
    for n_threads in THREADS:
        with Pool(n_threads) as pool:
            products.append(parallel.tiled_product(factors, Y, pool))
    assert products[0].dtype == np.float32
    assert products[0].tobytes() == products[1].tobytes() == products[2].tobytes()
    np.testing.assert_allclose(products[0], factors @ Y, rtol=1e-4, atol=1e-4)


def test_a_tiled_product_fills_what_it_is_given(factors):
    Y = np.ones((33, 2), np.float32)
    out = np.full((len(factors), 2), np.nan, np.float32)
    with Pool(2) as pool:
        assert parallel.tiled_product(factors, Y, pool, out=out) is out
    np.testing.assert_allclose(out, factors @ Y, rtol=1e-4, atol=1e-4)


def test_two_python_threads_get_what_each_gets_alone(factors):
    halves = [factors[:10_000], factors[10_000:]]

    def gram(X: np.ndarray) -> bytes:
        with Pool(2) as pool:
            return parallel.gram(X, pool).tobytes()

    alone = [gram(X) for X in halves]
    together = [None, None]

    def run(i: int) -> None:
        together[i] = gram(halves[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_computes_even_if_the_guard_was_held(factors):
    with Pool(2) as pool:
        expected = parallel.gram(factors, pool).tobytes()

    def child() -> None:
        with Pool(2) as pool:
            same = parallel.gram(factors, pool).tobytes() == expected
        os._exit(0 if same and parallel._guard._holders == 0 else 1)

    process = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    # Another thread may be just inside `enter` when the process forks.
    with Pool(1), parallel._guard._lock:
        process.start()
    process.join(20)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0


def forked(child) -> int:
    """Run `child` in a forked process; return its exit code, or None after 20 s."""
    process = multiprocessing.get_context("fork").Process(target=lambda: os._exit(child()),
                                                          daemon=True)
    process.start()
    process.join(20)
    if process.is_alive():
        process.kill()
    return process.exitcode


FORK = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
QUIET = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@FORK
@QUIET
def test_a_child_forked_while_blas_is_held_has_the_threads_of_before(two_blas_threads):
    def child() -> int:
        before = blas_threads()
        with Pool(1):
            inside = blas_threads()
        return 0 if (before, inside, blas_threads()) == ({2}, {1}, {2}) else 1

    with Pool(1):
        assert forked(child) == 0
        assert blas_threads() == {1}
    assert blas_threads() == {2}


@FORK
@QUIET
def test_a_child_forked_when_nobody_holds_blas_keeps_what_it_is_set_to(two_blas_threads):
    with Pool(1):
        pass
    with threadpool_limits(1, "blas"):
        assert forked(lambda: min(blas_threads())) == 1


@FORK
@QUIET
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_child_goes_on_with_the_pool_that_it_was_forked_in(factors, two_blas_threads, n_threads):
    with Pool(n_threads) as pool:
        expected = parallel.gram(factors, pool).tobytes()

        def child() -> int:
            same = parallel.gram(factors, pool).tobytes() == expected
            held = blas_threads() == {1}
            pool.__exit__()
            return 0 if same and held and blas_threads() == {2} else 1

        assert forked(child) == 0
        assert parallel.gram(factors, pool).tobytes() == expected
