"""Data sets: fetched, read, split, and rendered ones."""
