"""Check a cluster before any work: it must have this mfcore, and room for a block."""

from __future__ import annotations

import platform
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mfcore

# The share of a worker's memory that blocks may take: above it, Dask spills to disk.
SHARE = 0.6
# An id of the last start of Linux: the same for a machine and all its containers.
BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def connected(client: Any) -> Iterator[Any]:
    """Give the client, or one of a temporary cluster of this machine, one process per CPU.

    Raises ImportError without dask.distributed.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ImportError("mfcore.distributed needs dask.distributed: "
                          "pip install 'mfcore[distributed]'") from None
    if client is None:
        with Client(threads_per_worker=1) as own:
            yield own
    elif isinstance(client, Client):
        yield client
    else:
        raise TypeError(f"client must be a dask.distributed.Client or None, got {client!r}")


def check_versions(client: Any) -> None:
    """Raise RuntimeError for a cluster without workers, without mfcore or with another version."""
    def version() -> str:                   # (a closure travels by value: mfcore may be missing)
        from importlib import import_module
        try:
            return str(import_module("mfcore").__version__)
        except ImportError:
            return ""

    found = client.run(version)
    if not found:
        raise RuntimeError("the cluster has no workers; start some, as with `dask worker ADDRESS`")
    others = {worker: each for worker, each in found.items() if each != mfcore.__version__}
    if others:
        worker, other = next(iter(others.items()))
        has = f"mfcore {other}" if other else "no mfcore"
        raise RuntimeError(f"all workers must have mfcore {mfcore.__version__}, as here: {worker} "
                           f"has {has} ({len(others)} of {len(found)} workers); install it there")


def machine() -> str:
    """Return a name that is the same for all processes of a machine, and for no others."""
    try:
        started = BOOT.read_text().strip()
    except OSError:                       # another system: its network address
        started = f"{uuid.getnode():x}"
    return f"{platform.node()} {started}"


def on_this_machine(client: Any) -> bool:
    """Whether all workers share the memory of this machine."""
    return set(client.run(machine).values()) == {machine()}


def thread_total(client: Any) -> int:
    """Return the number of threads of all workers."""
    return max(1, sum(map(int, client.nthreads().values())))


def least_memory(client: Any) -> int:
    """Return the lowest memory limit in bytes per thread of a worker; 0 if there is none."""
    def limit(dask_worker: Any) -> int:
        return int(dask_worker.memory_manager.memory_limit or 0) // int(dask_worker.state.nthreads)

    return min(filter(None, client.run(limit).values()), default=0)


def check_room(most: dict[str, int], block_cells: int, limit: int) -> None:
    """Raise ValueError for blocks that do not fit a worker; it names a size that would.

    `most` holds the bytes of the largest block of each side.
    """
    side, needed = Counter(most).most_common(1)[0]
    room = int(SHARE * limit)
    if limit and needed > room:
        fits = max(1, int(block_cells * room / needed * 0.8))
        raise ValueError(f"a block of {side}s takes about {needed / 1e6:,.1f} MB while it is "
                         f"solved, and a thread of a worker has {room / 1e6:,.1f} MB for it "
                         f"({SHARE:.0%} of its limit); block_cells={fits:_} would fit, or give "
                         f"the workers more memory")
