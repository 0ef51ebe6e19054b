"""`python -m mfcore`: the command `mfcore`."""

from __future__ import annotations

import sys

from mfcore.cli import main

if __name__ == "__main__":
    sys.exit(main())
