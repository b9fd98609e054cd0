"""Simulated annotators, and the strokes that are committed."""
