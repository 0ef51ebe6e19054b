"""The command `mfcore`: from a ratings file to recommendations without writing Python.

parser.py defines the commands and their options, the function of each command returns an
`Answer`, and `main` writes it.  Errors become one line and an exit code: 0 for success, 1 for an
error, 2 for a command line that makes no sense or asks a model for something that it cannot do,
130 for Ctrl-C.
"""

from __future__ import annotations

import os
import warnings
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from typing import Any

from mfcore.cli import output
from mfcore.cli.flags import in_flags
from mfcore.cli.parser import build_parser
from mfcore.progress import alone

FAILED, UNABLE, INTERRUPTED = 1, 2, 130
STDOUT = 1          # its file descriptor
# What inputs, files and numbers can cause; anything else is a defect and is not caught.
EXPECTED = (ValueError, TypeError, LookupError, OSError, ImportError, ArithmeticError,
            MemoryError, NotImplementedError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, or None
        Arguments after the name of the program; None: those of the process.
    """
    try:
        return _run(build_parser().parse_args(argv))
    except SystemExit as end:           # --help, --version, a usage error
        return int(end.code or 0)


def _run(arguments: Namespace) -> int:
    try:
        with alone(), warnings.catch_warnings():        # (commands say which bars they show)
            warnings.showwarning = partial(_warn, arguments)
            output.write(arguments.command(arguments), arguments.json)
        return 0
    except KeyboardInterrupt:
        output.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:             # `mfcore ... | head`
        # The interpreter must not complain about the pipe again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
        return FAILED
    except EXPECTED as error:
        if arguments.traceback:
            raise
        output.complain(f"error: {in_flags(described(error), arguments)}")
        return UNABLE if isinstance(error, NotImplementedError) else FAILED


def _warn(arguments: Namespace, message: Warning | str, *_: Any, **__: Any) -> None:
    """Write a warning as one line to standard error: see `warnings.showwarning`."""
    output.complain(f"warning: {in_flags(str(message), arguments)}")


def described(error: BaseException) -> str:
    """Return the message of an error, without what some exceptions put around it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__
