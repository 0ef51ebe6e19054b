"""Compiled loops on plain arrays: no classes, no validation, no randomness, no printing."""

import mfcore.compiled  # noqa: F401  (takes the digest of these files before they are read)
