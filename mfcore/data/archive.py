"""Members of a folder or a zip, read by name; nothing is ever unpacked to disk.

What a zip says about paths is therefore never followed: a member `../../x` can do no more
than not be found.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from mfcore.data.textfile import gunzipped

# The largest member of a published data set, the ratings of ml-25m, has 0.7 GB.
MAX_BYTES = 2 * 2**30


class Archive:
    """Read files of a data set from its folder or zip, by their bare names.

    Parameters
    ----------
    path : Path
        A folder, or a zip file (a wheel is one).

    Raises
    ------
    ValueError
        A damaged zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries = {} if path.is_dir() else _entries(path)

    def has(self, name: str) -> bool:
        """Tell whether there is a member of this name, gzipped or not."""
        return self._found(name) is not None

    def read(self, name: str) -> bytes:
        """Return the bytes of a member, unzipped.

        Raises
        ------
        FileNotFoundError
            No such member.
        ValueError
            A damaged or encrypted one, a link, one of more than `MAX_BYTES`.
        """
        found = self._found(name)
        if found is None:
            raise FileNotFoundError(f"{self.path} holds no {name}")
        data = found.read_bytes() if isinstance(found, Path) else self._unzipped(found)
        if data[:2] != b"\x1f\x8b":
            return data
        return bytes(gunzipped(f"{self.path.name}/{name}", data))

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
    """Return the members by bare name; the one least deep wins."""
    try:
        with zipfile.ZipFile(path) as opened:
            members = [each for each in opened.infolist() if not each.is_dir()]
    except (zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no zip file, or damaged ({error}); delete it and get it "
                         f"again") from None
    members.sort(key=lambda each: -each.filename.count("/"))
    return {PurePosixPath(each.filename).name: each for each in members}
