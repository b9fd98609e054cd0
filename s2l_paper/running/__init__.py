"""Runs: planned, trained, scored and kept."""
