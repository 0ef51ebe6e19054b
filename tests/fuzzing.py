"""Fuzz targets: ratings files and model files from a stranger.

    python tests/fuzzing.py {read,load,archive,folder} SECONDS [FOLDER]

Each target takes bytes and either returns or raises something that is a defect.  "read" parses
them as a ratings file; "load" as a zip; "archive" reads them as a list of changes to a whole
model file, written again with checksums that agree, which random bytes never reach, loads it
and asks it questions; "folder" does the same to a folder of ratings.  Changes are drawn at
random; inputs that failed are kept in FOLDER.  For changes that are guided see guided.py.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
import os
import random
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import samples

import mfcore
from mfcore import persistence
from mfcore.data import folder as files
from mfcore.data.features import Features
from mfcore.validation import DivergenceError

# What an answer may be: a sentence.  Anything else, a crash above all, is a defect.
REFUSALS = (ValueError, TypeError, LookupError, NotImplementedError, DivergenceError)
LINES = [b"user,item,rating\nann,10,5\nbob,20,3.5\n", b"1::2::3\n2::2::4\n", b"1\t2\t3\t9\n",
         b'"a,b";2;3\n"c";4;5\n', b"1 2 3\n4 5 6\n", "\ufeffü,é,1\n".encode(),
         gzip.compress(b"1,2,3\n", mtime=0)]


class Source:
    """Choices read off bytes, in order; zeros when they are used up."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def number(self, below: int) -> int:
        taken = self.data[self.place:self.place + 2]
        self.place += 2
        return int.from_bytes(taken, "little") % below

    def pick(self, choices: Any) -> Any:
        return choices[self.number(len(choices))]


def read(data: bytes) -> None:
    """Parse bytes as a ratings file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ratings.csv")
        path.write_bytes(data)
        try:
            mfcore.read_ratings(path, duplicates="last", n_threads=1)
        except ValueError as error:
            if type(error) not in (ValueError, UnicodeDecodeError):
                raise


def load(data: bytes) -> None:
    """Load bytes as a model file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        path.write_bytes(data)
        try:
            model = mfcore.load(path)
        except persistence.ModelFileError:
            return
        ask(model)


def archive(data: bytes) -> None:
    """Change a whole model file as the bytes say, load it and ask it questions."""
    source = Source(data)
    arrays, meta = copy.deepcopy(source.pick(models()))
    for _ in range(1 + source.number(3)):
        CHANGES[source.number(len(CHANGES))](source, arrays, meta)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model")
        try:
            persistence.write(path, arrays, meta)
        except (TypeError, ValueError):
            return                              # no such file can be
        try:
            model = mfcore.load(path)
        except persistence.ModelFileError:
            return
        ask(model)


_MODELS: list[tuple[dict[str, np.ndarray], dict[str, Any]]] = []


def fitted() -> list[Any]:
    """One small model of each class, and some with ids, features and history."""
    ratings = samples.named(samples.counts())
    F = Features(samples.counts(11, 3, seed=5), ["a", "b", "c"])
    likes = samples.counts()
    likes.data = (likes.data > 3).astype(np.float32)
    return [*(samples.small(made).fit(ratings) for made in samples.EVERY),
            *(samples.small(made).fit(samples.counts(), user_features=(F, "history"))
              for made in (mfcore.MatrixFactorization, mfcore.BayesianMF)),
            samples.small(mfcore.MatrixFactorization, loss="logistic", solver="sgd").fit(likes)]


def models() -> list[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """The parts of their files."""
    if not _MODELS:
        with tempfile.TemporaryDirectory() as folder:
            for number, model in enumerate(fitted()):
                path = Path(folder, str(number))
                model.save(path)
                _MODELS.append(persistence.read(path))
    return _MODELS


# ---------------------------------------------------------------------------- changes

VALUES = [None, True, 0, -1, 1, 2, 7, 10**6, 10**9, 2**62, 10**30, 0.5, -1.0, math.nan, math.inf,
          "", "x", "mfcore", [], [3, 4], [[1]], {}, {"model": ["BPR", {}]},
          {"pairs": [[[], 1]]}, {"tuple": [1, 2]}, {"tuple": 3}, "float64", "learned"]


def _change_meta(source: Source, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Change, drop or add one value at any depth of the description."""
    at: Any = meta
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = source.pick(keys)
        if isinstance(at[key], (dict, list)) and at[key] and source.number(4):
            at = at[key]
            continue
        action = source.number(8)
        if action == 0:
            del at[key]
        elif action == 1 and isinstance(at, dict):
            at[source.pick(["fit", "x_", "ratings_", "models_", "weights_", "__class___",
                            "n_users_", "_rates"])] = source.pick(VALUES)
        else:
            at[key] = source.pick(VALUES)
        return


def _change_array(source: Source, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Give one array another type, shape, order or content, or to another name."""
    if not arrays:
        return
    name = source.pick(sorted(arrays))
    array = arrays[name]
    action = source.number(9)
    if action == 0:
        del arrays[name]
    elif action == 1:
        arrays[source.pick(["x_", "ratings.data", "user_bias_", "model9.x_", *arrays])] = array
    elif action == 2:
        kind = source.pick(["f4", "f8", ">f4", "i4", "i8", "u1", "b1", "c8", "S3", "U2"])
        with np.errstate(all="ignore"):
            try:
                arrays[name] = array.astype(kind)
            except (ValueError, OverflowError, TypeError):
                return
    elif action == 3:
        arrays[name] = array[:source.number(len(array) + 1)] if array.ndim else array
    elif action == 4:
        arrays[name] = np.concatenate([array, array]) if array.ndim else array
    elif action == 5:
        arrays[name] = array.reshape(source.pick([(-1,), (1, -1), (-1, 1)]))
    elif array.size and array.dtype.kind in "iufb":
        changed = array.copy()
        value = source.pick([0, 1, -1, 127, 2**31 - 1, 2**62, -2**62, math.nan, math.inf])
        with np.errstate(all="ignore"):
            place = source.number(array.size)
            info = np.iinfo(array.dtype) if array.dtype.kind in "iu" else None
            if info is not None:
                value = 3 if value != value or math.isinf(value) else value
                value = min(max(value, int(info.min)), int(info.max))
            changed.flat[place] = value
        arrays[name] = changed
    elif array.size and array.dtype == object:
        changed = array.copy()
        changed.flat[source.number(array.size)] = source.pick(
            [changed.flat[0], 10**30, "", "\ud800"])
        arrays[name] = changed


CHANGES = [_change_meta, _change_array, _change_array]


def ask(model: Any) -> None:
    """Ask a model that loaded all there is to ask; it may answer or refuse."""
    for question in samples.questions(model, 3).values():
        try:
            question()
        except (*REFUSALS, np.linalg.LinAlgError):
            pass


def folder(data: bytes) -> None:
    """Change a whole folder of ratings as the bytes say, open it and use what it holds."""
    source = Source(data)
    arrays, header, ids = copy.deepcopy(source.pick(folders()))
    for _ in range(1 + source.number(3)):
        CHANGES[source.number(len(CHANGES))](source, arrays, header)
    with tempfile.TemporaryDirectory() as place:
        target = Path(place, "ratings")
        if not _written(target, arrays, header, ids, source):
            return
        try:
            ratings = mfcore.Ratings.open(target)
        except files.RatingsFolderError:
            return
        use(ratings)


def folders() -> list[tuple[dict[str, np.ndarray], dict[str, Any], bytes | None]]:
    """Arrays, header and ids of small folders: plain, with weights, with names."""
    if not _FOLDERS:
        cells = samples.matrix()
        for ratings in (mfcore.Ratings(cells), samples.named(cells),
                        mfcore.Ratings(cells, weights=samples.weights(cells))):
            with tempfile.TemporaryDirectory() as place:
                target = Path(place, "ratings")
                ratings.write(target)
                arrays = {path.stem: np.load(path) for path in target.glob("*.npy")}
                header = json.loads((target / files.HEADER).read_text())["header"]
                ids = target / files.IDS
                _FOLDERS.append((arrays, header, ids.read_bytes() if ids.exists() else None))
    return _FOLDERS


_FOLDERS: list[tuple[dict[str, np.ndarray], dict[str, Any], bytes | None]] = []


def _written(target: Path, arrays: dict[str, np.ndarray], header: dict[str, Any],
             ids: bytes | None, source: Source) -> bool:
    """Write a folder with sizes and checksums that agree, mostly; say whether it can be."""
    target.mkdir()
    try:
        for name, array in arrays.items():
            np.save(target / f"{name}.npy", array, allow_pickle=True)
    except (OSError, ValueError):
        return False
    if ids is not None:
        (target / files.IDS).write_bytes(ids)
    entries = header.get("files")
    if isinstance(entries, dict) and source.number(8):
        for path in target.iterdir():
            if path.name in entries or source.number(2):
                entries[path.name] = {"bytes": path.stat().st_size,
                                      "sha256": persistence.digest_of_file(path)}
    text = {"header": header, "sha256": files.digest_of_header(header)}
    (target / files.HEADER).write_text(json.dumps(text))
    return True


def use(ratings: Any) -> None:
    """Learn from ratings that opened; what is learned may be refused, and has no NaN."""
    for made in (mfcore.MatrixFactorization, mfcore.Popularity):
        try:
            model = samples.small(made).fit(ratings)
        except (*REFUSALS, np.linalg.LinAlgError):
            continue
        if not np.isfinite(model.predict(*np.nonzero(np.ones(ratings.by_user.shape)))).all():
            raise AssertionError("a prediction that is no number")


TARGETS = {"read": read, "load": load, "archive": archive, "folder": folder}


def corpus(name: str) -> list[bytes]:
    """What guided fuzzing kept in corpus/NAME.zip."""
    with zipfile.ZipFile(Path(__file__).parent / "corpus" / f"{name}.zip") as archive:
        return [archive.read(each) for each in archive.namelist()]


def seeds(name: str) -> list[bytes]:
    """Inputs to start from: whole files; for "archive" and "folder" short lists of changes."""
    if name == "read":
        return LINES
    if name in ("archive", "folder"):
        return [bytes([model, 0, 0, 0, change, 0]) for model in range(4) for change in range(3)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number, parts in enumerate(models()[:4]):
            path = Path(folder, str(number))
            persistence.write(path, *parts)
            found.append(path.read_bytes())
    return found


def mutated(data: bytes, draw: random.Random) -> bytes:
    """Flip, insert, delete, repeat or splice a few bytes."""
    bytes_ = bytearray(data)
    words = [b"\0", b"\xff", b"\n", b'"', b",", b"nan", b"inf", b"1e999", b"\r", b"9" * 25,
             b"-", b"\xef\xbb\xbf", b"\x1f\x8b", b"\xff\xff\xff\x7f", b" ", b"::"]
    for _ in range(draw.randint(1, 6)):
        place = draw.randint(0, len(bytes_))
        stop = min(len(bytes_), place + draw.randint(1, 8))
        kind = draw.randrange(4)
        if kind == 0 and place < len(bytes_):
            bytes_[place] = draw.randrange(256)
        elif kind == 1:
            bytes_[place:place] = draw.choice(words)
        elif kind == 2:
            del bytes_[place:stop]
        else:
            bytes_[place:place] = bytes_[place:stop] * draw.randint(1, 20)
    return bytes(bytes_)


def inputs(name: str, seed: int) -> Any:
    """Random inputs without end: choices for "archive" and "folder", else mutated files."""
    draw, known = random.Random(seed), seeds(name)
    while True:
        chosen = name in ("archive", "folder")
        yield draw.randbytes(24) if chosen else mutated(draw.choice(known), draw)


def run(name: str, seconds: float, folder: Path, seed: int = 0) -> dict[str, int]:
    """Try random inputs for a time; keep those that fail, named by the error."""
    stop, tried, failed = time.monotonic() + seconds, 0, {}
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / f"{name}.last"
    for data in inputs(name, seed):
        last.write_bytes(data)                # what a crash leaves behind
        tried += 1
        try:
            TARGETS[name](data)
        except Exception as error:            # noqa: BLE001  (whatever it is, it is the finding)
            where = deepest(error)
            if where not in failed:
                failed[where] = 0
                (folder / f"{name}-{len(failed)}.bin").write_bytes(data)
                sys.stderr.write(f"{name}-{len(failed)}: {type(error).__name__}: {error} "
                                 f"[{where}]\n")
            failed[where] += 1
        if time.monotonic() > stop:
            break
    last.unlink()
    return {"target": name, "executions": tried, "defects": len(failed)}


def deepest(error: BaseException) -> str:
    trace, where = error.__traceback__, ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if "mfcore" in code.co_filename:
            where = f"{Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} {where}"


if __name__ == "__main__":
    name, seconds = sys.argv[1], float(sys.argv[2])
    where = Path(sys.argv[3]) if len(sys.argv) > 3 else Path("fuzz")
    result = run(name, seconds, where, int(os.environ.get("FUZZ_SEED", "0")))
    sys.stdout.write(json.dumps(result) + "\n")
