"""`mfcore compile`: compile the kernels of models before they are needed."""

from __future__ import annotations

from argparse import Namespace

from mfcore.cli.models import CLASSES
from mfcore.cli.output import Answer, shows_progress


def compile_(arguments: Namespace) -> Answer:
    """Compile what models need, and say where it is kept."""
    from mfcore.precompile import compile_kernels

    names = arguments.models and [CLASSES[name] for name in arguments.models]
    done = compile_kernels(names, verbose=shows_progress(arguments.quiet))
    return Answer(done._asdict(), f"{done.n_kernels} kernels ready, {done.n_new} of them new, in "
                                  f"{done.folder} ({done.seconds:.0f} s)")
