"""What figures depend on: processor, BLAS and its kernel, versions, the library's own text."""

from __future__ import annotations

import hashlib
import importlib
import os
import platform
import resource
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_info

ROOT = Path(__file__).parents[1]
PACKAGES = ("numpy", "scipy", "numba", "implicit", "irspack", "libmf", "scikit-surprise",
            "torch", "cmfrec", "pandas", "polars", "pyarrow")


def peak_gigabytes() -> float:
    """Return the highest memory of this process.

    Not `ru_maxrss` where Linux tells: a process starts with that of the one it comes from.
    """
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return (found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1e6


def missing(needs: str) -> str | None:
    """Return why a contestant cannot run, or None."""
    try:
        importlib.import_module(needs)
    except Exception as error:              # a broken peer is a missing one, with its reason
        return f"{type(error).__name__}: {error}"
    return None


def version(package: str) -> str | None:
    """Return the version that is installed, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def sources() -> str:
    """Return a digest of the library's text: another digest, other code."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "mfcore").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    found = dict(line.replace("\t", "").split(": ", 1) for line in lines if ": " in line)
    if not found:
        return platform.processor()
    return f"{found.get('model name', '')}, family {found.get('cpu family')} " \
           f"model {found.get('model')}"


def _commit() -> str:
    found = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=ROOT,
                           capture_output=True, text=True)
    return found.stdout.strip()


def environment(n_threads: int) -> dict[str, Any]:
    """Return what figures depend on; runs in two environments are not one result."""
    importlib.import_module("scipy.linalg")             # brings its BLAS
    blas = sorted({f"{each['internal_api']} {each['version']}, {each['architecture']}"
                   for each in threadpool_info() if each["user_api"] == "blas"})
    versions = {name: found for name in PACKAGES if (found := version(name))}
    return {"cpu": _processor(), "cpus": os.cpu_count(), "threads": n_threads, "blas": blas,
            "python": platform.python_version(), "versions": versions, "mfcore": sources(),
            "commit": _commit()}


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether figures from two environments may stand in one result."""
    return {**one, "commit": ""} == {**other, "commit": ""}
