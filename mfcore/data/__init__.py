"""Ratings and where they come from: files, frames, open data sets, splits, planted truth."""
