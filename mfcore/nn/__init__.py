"""A small neural library derived by hand: each derivative is right below its function.

Read `layers.py` first: it says what a layer is, and how to add one.
"""
