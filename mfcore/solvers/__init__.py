"""Solvers know objectives and kernels, never models."""
