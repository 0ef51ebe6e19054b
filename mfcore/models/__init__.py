"""Estimators: hyper-parameters, and which objective and solver they stand for."""
