"""Counter-based draws: a hash of the draw's purpose and number, instead of a generator's state.

There is no state to share, so a draw does not depend on the thread that makes it.  Arithmetic
is int64 with products below 2^63, so that plain Python gives the same numbers.
"""

from __future__ import annotations

from mfcore.compiled import njit
from mfcore.kernels.options import KERNEL

WORD = 0xFFFFFFFF               # 32 bits


@njit(**KERNEL)
def mix(x: int, key: int) -> int:
    """Return a hash of x and key in [0, 2^32)."""
    x = (x + key) & WORD
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & WORD
    x = ((x ^ (x >> 15) ^ (key >> 32)) * 0x45D9F3B5) & WORD
    x = ((x ^ (x >> 16)) * 0x31848BAB) & WORD
    return x ^ (x >> 15)
