"""The command `mfcore`: from a ratings file to recommendations without writing Python.

parser.py says what may be asked, commands.py and the modules beside it answer with an
`Answer`, and `main` writes that answer and turns errors into one line and an exit code.
"""

from __future__ import annotations

from mfcore.cli.app import main

__all__ = ["main"]
