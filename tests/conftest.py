"""What the tests share: a folder of compiled kernels, a calm hypothesis, data."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

CHECKOUT = Path(__file__).parents[1]

# The benchmarks are not installed; last, so that an installed mfcore is the one under test.
sys.path.append(str(CHECKOUT))

# One folder of compiled kernels for all checkouts: their names tell versions of the sources
# apart.  (Numba reads the variable once, when it is imported.)
_HOME = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
os.environ.setdefault("NUMBA_CACHE_DIR", str(_HOME / "mfcore" / "numba"))

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402
from numba.core.compiler_lock import global_compiler_lock  # noqa: E402
from numba.core.dispatcher import Dispatcher  # noqa: E402

if TYPE_CHECKING:
    from typing import Any

    from mfcore.data.dataset import Dataset
    from mfcore.data.synthetic import PlantedDataset

# A first example may compile a kernel, so that no deadline is fair.
settings.register_profile("mfcore", deadline=None, max_examples=30,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mfcore")

_compile = Dispatcher.compile


def _compile_untraced(kernel: Dispatcher, signature: Any) -> Any:
    """Compile in a thread that coverage does not follow: traced, Numba takes half as long again.

    A thread that holds Numba's lock, because it is compiling already, does not wait for another.
    """
    if sys.gettrace() is None or global_compiler_lock.is_locked():
        return _compile(kernel, signature)
    with ThreadPoolExecutor(1, initializer=sys.settrace, initargs=(None,)) as untraced:
        return untraced.submit(_compile, kernel, signature).result()


Dispatcher.compile = _compile_untraced


@pytest.fixture(scope="session")
def planted() -> PlantedDataset:
    """A few thousand generated ratings with known factors."""
    from mfcore.data import synthetic

    return synthetic.planted(n_users=120, n_items=80, n_factors=3, random_state=5)


@pytest.fixture(scope="session")
def ml100k() -> Dataset:
    """MovieLens 100K from `MFCORE_DATA`, the cache or the net; skips where none has it."""
    from mfcore.data import datasets

    try:
        return datasets.fetch("ml-100k", progress=False)
    except OSError as error:
        pytest.skip(f"ml-100k is not at hand: {error}")
