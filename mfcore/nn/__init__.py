"""A small neural library by hand: every derivative stands below what it derives.

Read `layers.py` first: what a layer is, and how to add one.
"""
