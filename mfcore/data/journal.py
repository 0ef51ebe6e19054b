"""What a long piece of work has done, so that it goes on after it was killed.

A step counts once it is noted, and it is noted in one step, by a file that is replaced.  So
whoever opens a journal finds the folder as it was at the last note: what came later is undone.

    append, write, ...                     may be killed anywhere: the next to open undoes it
    journal.note(read=3, drop=[old])       from here on it counts, and `old` does not
    (the files dropped are removed)        may be killed: the next to open removes them
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mfcore.atomic import PREFIX, named, remove, replacing

NAME = "journal.json"


class Journal:
    """The journal of a folder, which is made if necessary.

    The folder is as the last note left it; empty if that was of other work, or if a file is
    missing or shorter than it was then.

    Parameters
    ----------
    folder : Path
        Nobody else works in it.
    identity : JSON value
        What the work depends on.

    Raises
    ------
    FileExistsError
        The folder holds files and no journal.
    """

    def __init__(self, folder: Path, identity: Any) -> None:
        self.folder, self.path = folder, folder / NAME
        self.state: dict[str, Any] = {"identity": json.loads(json.dumps(identity)), "files": {}}
        folder.mkdir(exist_ok=True)
        if not self.path.exists():
            self._refuse_strangers()
        found = self._read()
        if found is None:
            self._write()               # first: what is removed now is missed by nobody
        else:
            self.state = found
        self._roll_back()

    def _refuse_strangers(self) -> None:
        for path in self.folder.iterdir():
            if not path.name.startswith(PREFIX):
                raise FileExistsError(f"{self.folder} holds other files, such as {path.name}; "
                                      f"move it away first")

    def _read(self) -> dict[str, Any] | None:
        """Return the state in the file if it belongs to this work and the folder agrees."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_bytes())
            same = found["identity"] == self.state["identity"]
            whole = all(self._size(self.folder / name) >= size
                        for name, size in found["files"].items())
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None
        return found if same and whole else None

    def _roll_back(self) -> None:
        for path in self.folder.iterdir():
            size = self.state["files"].get(path.name)
            if path == self.path:
                continue
            if size is None:
                remove(path)
            elif path.is_dir():
                for piece in path.glob(f"{PREFIX}*"):
                    remove(piece)
            elif path.stat().st_size > size:
                os.truncate(path, size)

    @staticmethod
    def _size(path: Path) -> int:
        return 0 if path.is_dir() else path.stat().st_size

    def note(self, *, drop: Iterable[Path] = (), **done: Any) -> None:
        """Write down what is done, and how long each file is; then remove files.

        Parameters
        ----------
        drop : paths
            Files of the folder that nobody needs from now on; they need not be there.
        **done
            What the next to open the journal finds in `state`.
        """
        dropped = list(drop)
        files = {path.name: self._size(path) for path in self.folder.iterdir()
                 if path != self.path and path not in dropped}
        self.state.update(done, files=files)
        self._write()
        for path in dropped:
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        with replacing(self.path) as stream:
            stream.write(json.dumps(self.state).encode())

    def done(self, stage: str) -> int:
        """Return how many steps of a stage are done."""
        return int(self.state.get(stage, 0))


def append(path: Path, data: Any) -> None:
    """Append bytes, or the numbers of an array in one piece, to a file."""
    with named(path), path.open("ab") as stream:
        stream.write(data)


def is_over(folder: Path, result: str) -> bool:
    """Return whether the work in a folder is done: its result has been moved out of it."""
    try:
        listed = result in json.loads((folder / NAME).read_bytes())["files"]
    except FileNotFoundError:
        return folder.is_dir() and not any(folder.iterdir())
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return listed and not (folder / result).exists()


def discard(folder: Path) -> None:
    """Remove a folder with its journal, the journal last."""
    for path in folder.iterdir():
        if path.name != NAME:
            remove(path)
    (folder / NAME).unlink(missing_ok=True)
    folder.rmdir()
