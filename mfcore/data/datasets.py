"""`fetch`: open data sets by name, from this machine or from where they are published.

    data = fetch("ml-100k")
    data.ratings, data.timestamps, data.user_features, data.item_features, data.item_titles

A data set is looked for as a folder or zip of its name in the directory that the environment
variable MFCORE_DATA names, then in the cache (MFCORE_CACHE, else the system's cache folder);
if it is in neither, it is downloaded into the cache.  MFCORE_MIRROR names another address for
GroupLens' files.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mfcore import validation
from mfcore.atomic import remove_abandoned
from mfcore.data import download, formats
from mfcore.data.archive import Archive
from mfcore.data.dataset import Dataset

GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
# ml-100k for machines that reach only a Python package index.
WHEEL = "recbole==1.2.1"
WHEEL_FILES = {
    "ml-100k.inter": "sha256:4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.user": "sha256:4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
    "ml-100k.item": "sha256:51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
_MOVIELENS = ("GroupLens MovieLens: research use, not to be redistributed or sold without "
              "permission; cite Harper and Konstan (2015), doi:10.1145/2827872")
_TWEETINGS = "MIT (Simon Dooms, MovieTweetings)"
_RETAIL = "CC0 as stated by its distributor (UCI Online Retail, aggregated to pairs)"


@dataclass(frozen=True)
class Source:
    """Where a data set may be found and how it is read."""

    # For each published form: a file that identifies it, and the function that reads it.
    readers: Mapping[str, Callable[[Archive], Dataset]]
    licence: str
    digest: str | None = None           # of GroupLens' zip; None if nothing can be downloaded
    folders: tuple[str, ...] = ()       # other names that the folder or zip may have


_FILMS = {"ratings.csv": formats.films_csv}
_DAT = {"ratings.dat": formats.films_dat}
# The MD5 that GroupLens publishes with each zip; it publishes none for ml-latest-small, whose
# SHA-256 is the one that TensorFlow Datasets records.
SOURCES = {
    "ml-100k": Source({"u.data": formats.movielens_100k, "ml-100k.inter": formats.recbole_100k},
                      _MOVIELENS, "md5:0e33842e24a9c977be4e0107933c0723"),
    "ml-1m": Source({"ratings.dat": formats.movielens_1m}, _MOVIELENS,
                    "md5:c4d9eecfca2ab87c1945afe126590906"),
    "ml-10m": Source(_DAT, _MOVIELENS, "md5:ce571fd55effeba0271552578f2648bd",
                     folders=("ml-10M100K",)),
    "ml-20m": Source(_FILMS, _MOVIELENS, "md5:cd245b17a1ae2cc31bb14903e1204af3"),
    "ml-25m": Source(_FILMS, _MOVIELENS, "md5:6b51fb2759a8657d3bfcbfc42b592ada"),
    "ml-latest-small": Source(
        _FILMS, _MOVIELENS,
        "sha256:696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436"),
    "movietweetings-10k": Source(_DAT, _TWEETINGS),
    "movietweetings-100k": Source(_DAT, _TWEETINGS),
    "online-retail": Source({"online_retail_pairs.csv": formats.online_retail}, _RETAIL),
}
NAMES = ("planted", "planted-stars", "planted-audiences", *SOURCES)


def fetch(name: str, *, data_dir: str | os.PathLike[str] | None = None,
          progress: bool = True) -> Dataset:
    """Return an open data set, from this machine or downloaded once.

    Parameters
    ----------
    name : str
        "planted", "planted-stars" and "planted-audiences" (generated), "ml-100k", "ml-1m",
        "ml-10m", "ml-20m", "ml-25m", "ml-latest-small", "movietweetings-10k",
        "movietweetings-100k" or "online-retail".
    data_dir : path or None
        Where to look and download to; None: look in MFCORE_DATA, then in the cache, and
        download to the cache.
    progress : bool
        Whether a download shows a progress bar.

    Returns
    -------
    data : Dataset
        Rows and columns are the users and items that have ratings.

    Raises
    ------
    ValueError
        An unknown name; a damaged file; a download with another checksum.
    FileNotFoundError
        A data set that cannot be downloaded, or an incomplete folder.
    ConnectionError
        The server cannot be reached.

    Examples
    --------
    >>> from mfcore import fetch
    >>> data = fetch("planted")
    >>> data.ratings.shape, str(data.item_titles[0])
    ((600, 300), 'Mystery 1')
    """
    validation.choice("name", name, NAMES)
    if name not in SOURCES:
        from mfcore.data import synthetic

        return synthetic.planted_audiences() if name == "planted-audiences" else \
            synthetic.planted(**(synthetic.STARS if name == "planted-stars" else {}))
    places = _places(data_dir)
    remove_abandoned(places[-1])
    archive = _on_this_machine(name, places) or _downloaded(name, places[-1], progress)
    source = SOURCES[name]
    read = next(read for file, read in source.readers.items() if archive.has(file))
    return dataclasses.replace(read(archive), licence=source.licence)


def is_here(name: str, data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Return whether `fetch(name, data_dir)` would download nothing.

    Raises ValueError for an unknown name, FileNotFoundError for an incomplete folder, or if
    MFCORE_DATA names no folder.
    """
    validation.choice("name", name, NAMES)
    return name not in SOURCES or _on_this_machine(name, _places(data_dir)) is not None


def cache_dir() -> Path:
    """Return the folder for downloads: MFCORE_CACHE, else the system's cache folder."""
    if os.environ.get("MFCORE_CACHE"):
        return Path(os.environ["MFCORE_CACHE"]).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home()) / "mfcore"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "mfcore"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mfcore"


def _places(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return where to look; the last is where downloads go."""
    if data_dir is not None:
        return [Path(data_dir)]
    given = os.environ.get("MFCORE_DATA")
    if not given:
        return [cache_dir()]
    if not Path(given).is_dir():
        raise FileNotFoundError(f"MFCORE_DATA names {given}, which is no folder")
    return [Path(given), cache_dir()]


def _on_this_machine(name: str, places: list[Path]) -> Archive | None:
    source = SOURCES[name]
    names = [form for each in (name, *source.folders) for form in (each, f"{each}.zip")]
    for path in (place / each for place in places for each in names):
        if path.exists():
            archive = Archive(path)
            if not any(map(archive.has, source.readers)):
                raise FileNotFoundError(f"{path} holds no {' or '.join(source.readers)}")
            return archive
    return None


def _downloaded(name: str, place: Path, progress: bool) -> Archive:
    source = SOURCES[name]
    if source.digest is None:
        raise FileNotFoundError(
            f"{name} is not on this machine and cannot be downloaded: put its folder, {name}/ "
            f"with {' or '.join(source.readers)}, into a directory and set MFCORE_DATA to "
            f"that directory.  fetch('planted') needs no file, fetch('ml-100k') downloads")
    target = place / f"{name}.zip"
    address = (os.environ.get("MFCORE_MIRROR") or GROUPLENS).rstrip("/")
    hint = (f"put the folder {name}/ or {name}.zip into a directory and set MFCORE_DATA to "
            f"that directory; fetch('planted') needs no download")
    try:
        download.download(f"{address}/{name}.zip", target, source.digest, progress=progress)
    except (ConnectionError, ValueError) as first:
        if name != "ml-100k":
            raise type(first)(f"{first}; {hint}") from first
        target = place / name
        try:
            download.from_wheel(WHEEL, WHEEL_FILES, target)
        except (ConnectionError, ValueError) as second:
            raise type(second)(f"{name}: {first}; then {second}; {hint}") from first
    return Archive(target)
