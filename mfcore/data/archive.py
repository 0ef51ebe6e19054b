"""Members of a folder or a zip, read by name.

Nothing is unpacked to disk, so the paths in a zip are never followed: a member `../../x` is
harmless.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mfcore.data.textfile import GZIP, gunzipped
from mfcore.validation import regular_file

MAX_BYTES = 2 * 2**30       # the largest member of a known data set, ml-25m's ratings, has 0.7 GB


class Archive:
    """Read files of a data set from a folder or zip (such as a wheel), by their bare names.

    Raises ValueError for a damaged zip, FileNotFoundError where there is nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = {} if path.is_dir() else _entries(regular_file(path, "read in pieces"))

    def has(self, name: str) -> bool:
        """Return whether there is a member of this name, gzipped or not."""
        return self._found(name) is not None

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, unzipped.

        Raises FileNotFoundError if there is none, ValueError if it is damaged, encrypted, a
        link, or larger than `MAX_BYTES`.
        """
        found = self._found(name)
        if found is None:
            raise FileNotFoundError(f"{self.path} holds no {name}")
        data = found.read_bytes() if isinstance(found, Path) else self._unzipped(found)
        gzipped = data[:2] == GZIP
        return bytes(gunzipped(f"{self.path.name}/{name}", data)) if gzipped else data

    def _found(self, name: str) -> Path | zipfile.ZipInfo | None:
        for each in (name, f"{name}.gz"):
            if each in self._entries:
                return self._entries[each]
            if self.path.is_dir():
                for file in (self.path / each, *sorted(self.path.glob(f"*/{each}"))):
                    if file.is_file():
                        return file
        return None

    def _unzipped(self, entry: zipfile.ZipInfo) -> bytes:
        shown = f"{self.path.name}/{entry.filename}"
        if entry.file_size > MAX_BYTES:
            raise ValueError(f"{shown} would unpack to {entry.file_size:,} bytes, more than "
                             f"any published data set holds")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"{shown} is a link, not a file")
        try:
            with zipfile.ZipFile(self.path) as opened:
                return opened.read(entry)
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError,
                EOFError) as error:
            raise ValueError(f"{shown} cannot be unpacked ({error}); delete the zip and get "
                             f"it again") from None


def _entries(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return the members by bare name; of several, the one in the fewest folders."""
    try:
        with zipfile.ZipFile(path) as opened:
            members = [each for each in opened.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no zip file, or damaged ({error}); delete it and get it "
                         f"again") from None
    members.sort(key=lambda each: -each.filename.count("/"))
    return {PurePosixPath(each.filename).name: each for each in members}
