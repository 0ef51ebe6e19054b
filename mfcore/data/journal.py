"""The journal of long work in a folder: what is done, and how long each file was then."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any


class Journal:
    """What is done, and how long each file was then; starts anew for another run."""

    def __init__(self, work: Path, identity: list[Any]) -> None:
        self.path = work / "journal.json"
        self.state: dict[str, Any] = {"identity": identity, "sizes": {}}
        if self.path.exists():
            found = json.loads(self.path.read_text())
            same = found["identity"] == json.loads(json.dumps(identity))
            if same and not found.get("finishing"):
                self.state = found
                self._cut(work)
                return
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()

    def _cut(self, work: Path) -> None:
        for path in work.iterdir():
            size = self.state["sizes"].get(path.name)
            if size is not None and path.stat().st_size > size:
                os.truncate(path, size)
            elif size is None and path.suffix == ".raw":
                path.unlink()

    def note(self, **done: Any) -> None:
        """Write down what is done, with the sizes of the files that grow."""
        work = self.path.parent
        sizes = {path.name: path.stat().st_size for path in work.iterdir()
                 if path.suffix in (".raw", ".npy")}
        self.state.update(done, sizes=sizes)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.state))
        os.replace(fresh, self.path)

    def done(self, stage: str) -> int:
        """Return how many pieces of a stage are done."""
        return int(self.state.get(stage, 0))
