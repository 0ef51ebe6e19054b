"""The command `mfcore`: from a ratings file to recommendations without writing Python.

parser.py says what may be asked, commands.py and the modules beside it answer with an
`Answer`, and `main` writes that answer and turns errors into one line and an exit code: 0 all
went well, 1 an error, 2 a command line that makes no sense or asks a model for what it cannot
do, 130 Ctrl-C.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence

from mfcore.cli import output
from mfcore.cli.parser import build_parser

FAILED, UNABLE, INTERRUPTED = 1, 2, 130
STDOUT = 1          # its file descriptor
# What inputs, files and numbers can bring about; anything else is a defect and shows itself.
EXPECTED = (ValueError, TypeError, LookupError, OSError, ImportError, ArithmeticError,
            MemoryError, NotImplementedError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    argv : sequence of str, or None
        Arguments after the name of the program; None takes those of the process.
    """
    try:
        return _run(build_parser().parse_args(argv))
    except SystemExit as end:           # --help, --version, a usage error
        return int(end.code or 0)


def _run(arguments: Namespace) -> int:
    try:
        output.write(arguments.command(arguments), arguments.json)
        return 0
    except KeyboardInterrupt:
        output.complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:             # `mfcore ... | head`
        _close_standard_output()
        return FAILED
    except EXPECTED as error:
        if arguments.traceback or os.environ.get("MFCORE_TRACEBACK"):
            raise
        output.complain(f"error: {described(error)}")
        return UNABLE if isinstance(error, NotImplementedError) else FAILED


def described(error: BaseException) -> str:
    """Say what went wrong: the message, without the dress that some exceptions give it."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    return str(error) or type(error).__name__


def _close_standard_output() -> None:
    """Keep the interpreter from complaining about the pipe again when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
