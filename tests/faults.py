"""Processes killed at random moments, and what they leave.

    python tests/faults.py {fit,save,fetch} KILLS

Each function kills so many processes while they work, checks after each that nothing is lost
and that the next one goes on or starts clean, and returns how many were killed at work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import samples

import mfcore
from mfcore import persistence
from mfcore.data import download


def killed(work: Callable[[], Any], seconds: float) -> bool:
    """Run `work` in a forked process, kill it after so long; return whether it still ran."""
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.write(told, b"!")
            work()
        os._exit(0)
    os.close(told)
    os.read(ready, 1)
    os.close(ready)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def took(work: Callable[[], Any]) -> float:
    """Return the seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def moments(work: Callable[[], Any], kills: int, seed: int) -> Iterator[None]:
    """Kill `work` so many times at moments spread over all of it; yield after each."""
    draw, seconds = random.Random(seed), min(took(work), took(work))
    while kills:
        if killed(work, draw.uniform(0, seconds)):
            kills -= 1
            yield


def without_parts(folder: Path) -> list[str]:
    """Remove the piece and the lock that a killed process may leave; return the other names."""
    parts = list(folder.glob("*.part"))
    if len(parts) > 2:
        raise AssertionError(f"more than a piece and a lock are left: {parts}")
    for part in parts:
        part.unlink()
    return sorted(path.name for path in folder.iterdir())


def expect(holds: bool, what: str) -> None:
    """Raise an AssertionError unless something holds, also where Python is optimised."""
    if not holds:
        raise AssertionError(what)


def fit(folder: Path, kills: int, seed: int = 0) -> int:
    """Kill fits with a checkpoint: the next fit ends at the bits of one never killed."""
    path, went_on = folder / "checkpoint", 0

    def work() -> Any:
        return samples.small(mfcore.MatrixFactorization, n_epochs=40).fit(
            samples.counts(), checkpoint=path)

    wanted = samples.answers(work())
    for _ in moments(work, kills, seed):
        expect(without_parts(folder) in ([], ["checkpoint"]), "a file that nobody wrote")
        went_on += path.exists() and persistence.read(path)[1]["epoch"] > 0
        expect(samples.answers(work()) == wanted, "the fit that went on has other bits")
        expect(not path.exists(), "the checkpoint is left")
    expect(went_on > 0, "no kill left a checkpoint to go on from")
    return kills


def save(folder: Path, kills: int, seed: int = 0) -> int:
    """Kill saves: the file is the old model or the new one, whole; the next clears the rest."""
    path = folder / "model"
    models = [samples.small(mfcore.MatrixFactorization, n_factors=n).fit(samples.counts())
              for n in (2, 3)]
    whole = []
    for model in models:
        model.save(path)
        whole.append(path.read_bytes())

    def work() -> None:
        for model in models * 10:
            model.save(path)

    for _ in moments(work, kills, seed):
        expect(len(list(folder.iterdir())) <= 2, "more than one piece is left")
        expect(path.read_bytes() in whole, "the file is neither model")
        mfcore.load(path).recommend(k=1)
        models[0].save(path)
        expect([each.name for each in folder.iterdir()] == ["model"], "a piece is left for good")
    return kills


def fetch(folder: Path, kills: int, seed: int = 0) -> int:
    """Kill downloads: the file is whole or not there, and the next download brings it."""
    from test_datasets import Server, serving

    target = folder / "data.zip"
    with serving(Server()) as server:
        server.block_on_close = False            # (a connection may outlive who was killed)
        server.content = random.Random(seed).randbytes(3_000_000)
        digest = f"sha256:{hashlib.sha256(server.content).hexdigest()}"

        def work() -> None:
            target.unlink(missing_ok=True)
            download.download(f"http://127.0.0.1:{server.server_port}/", target, digest,
                              progress=False)

        for _ in moments(work, kills, seed):
            expect(without_parts(folder) in ([], ["data.zip"]), "a file that nobody wrote")
            expect(not target.exists() or target.read_bytes() == server.content, "half a file")
            work()
            expect(target.read_bytes() == server.content, "the next download failed")
    return kills


KINDS: dict[str, Callable[..., int]] = {"fit": fit, "save": save, "fetch": fetch}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        count = KINDS[sys.argv[1]](Path(place), int(sys.argv[2]))
    sys.stdout.write(json.dumps({"fault": sys.argv[1], "survived": count}) + "\n")
