"""The Numba options of every kernel, named once.

* `nogil`: kernels run on the threads of a pool, several at a time.
* `fastmath` is a named subset: sums may be reordered into vector lanes, and products
  fused.  NaN and infinity keep their meaning in single values (`isfinite` of a sum may be
  folded to True: compare with infinity instead).
* `no_cfunc_wrapper`: nobody calls kernels from C, and what is not made is not compiled.
* `boundscheck` stays None, so that NUMBA_BOUNDSCHECK=1 can switch it on.
"""

from __future__ import annotations

from typing import Any

FASTMATH = {"reassoc", "contract", "nsz", "arcp"}

# A kernel.
KERNEL: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": FASTMATH,
                          "no_cfunc_wrapper": True}
# A helper that must be inlined into the kernel that calls it (constant sizes propagate).  Only
# kernels can call it.
INLINE: dict[str, Any] = {**KERNEL, "forceinline": True, "no_cpython_wrapper": True}
# A kernel whose order of operations is guaranteed.
EXACT: dict[str, Any] = {**KERNEL, "fastmath": False}
# A helper that is inlined before optimisation, so that constants of the caller, such as a
# fixed width, reach its loops.  (Numba optimises other helpers alone before it links them.)
MELT: dict[str, Any] = {"inline": "always"}
# Rows are weak, rounding to a good part, where ε times their condition number is above 1 / WEAK.
WEAK = 2048
