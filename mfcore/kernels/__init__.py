"""Compiled loops on plain arrays: no classes, no validation, no randomness, no printing.

Numba does not notice a change in a function that a kernel imports from another file, so the
helpers of a kernel are in the kernel's own file.
"""
