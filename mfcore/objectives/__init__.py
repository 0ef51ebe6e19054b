"""One file, one formula: statement, derivation, value and gradient."""
