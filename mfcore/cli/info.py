"""`mfcore info`: what results and their speed may depend on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from argparse import Namespace
from pathlib import Path
from typing import Any

import mfcore
from mfcore.cli.check import self_test
from mfcore.cli.output import Answer

PACKAGES = ("numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "tqdm", "pyarrow",
            "matplotlib")


def info(arguments: Namespace) -> Answer:
    """Describe versions, threads, BLAS and folders; with --check, test them."""
    data = {"mfcore": mfcore.__version__, "python": platform.python_version(),
            "platform": platform.platform(), "packages": _versions(), **_machine(),
            "blas": _blas(), "jit": _jit(), "folders": _folders()}
    if arguments.check:
        data["check"] = self_test()
    return Answer(data, "\n".join(_lines(data)))


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def _machine() -> dict[str, Any]:
    from mfcore.parallel import thread_count

    return {"cpus": os.cpu_count(), "threads": thread_count(None)}


def _blas() -> list[dict[str, Any]]:
    """Describe the BLAS libraries that NumPy and SciPy brought along, with their kernels."""
    import scipy.linalg  # noqa: F401  (loads its BLAS)
    from threadpoolctl import threadpool_info

    return [{"library": each["internal_api"], "version": each["version"],
             "kernel": each.get("architecture"), "threads": each["num_threads"],
             "file": Path(each["filepath"]).name}
            for each in threadpool_info() if each["user_api"] == "blas"]


def _jit() -> dict[str, Any]:
    from numba import config

    cache = _kernel_cache(config.CACHE_DIR)
    return {"enabled": not config.DISABLE_JIT, "cache": cache,
            "kernels": sum(1 for _ in Path(cache).rglob("*.nbc"))}


def _kernel_cache(given: str) -> str:
    """Return where Numba keeps compiled kernels, by its rules."""
    beside = Path(mfcore.__file__).parent / "kernels"
    if given:
        return given
    return str(beside / "__pycache__") if os.access(beside, os.W_OK) else \
        "Numba's folder in the cache of this user"


def _folders() -> dict[str, Any]:
    from mfcore.data.datasets import cache_dir

    return {"MFCORE_DATA": os.environ.get("MFCORE_DATA"), "cache": str(cache_dir())}


def _lines(data: dict[str, Any]) -> list[str]:
    versions = [f"{name} {version}" for name, version in data["packages"].items() if version]
    rows = [("mfcore", data["mfcore"]), ("python", f"{data['python']}, {data['platform']}"),
            ("packages", ", ".join(versions)),
            ("threads", f"{data['threads']} of {data['cpus']} CPUs")]
    rows += [("blas", f"{each['library']} {each['version']}, kernel {each['kernel']} "
                      f"({each['file']})") for each in data["blas"]]
    rows += [("jit", "on" if data["jit"]["enabled"] else "off (NUMBA_DISABLE_JIT)"),
             ("jit cache", f"{data['jit']['cache']}, {data['jit']['kernels']} compiled kernels"),
             ("data", data["folders"]["MFCORE_DATA"] or "MFCORE_DATA is not set"),
             ("data cache", data["folders"]["cache"])]
    if "check" in data:
        check = data["check"]
        rows.append(("check", f"passed in {check['seconds']} s: {', '.join(check['passed'])}"))
    return [f"{name:12s}{value}" for name, value in rows]
