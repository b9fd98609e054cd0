"""A person's own images: strokes, annotations of other programs, checks, drawing, exports.

This package knows nothing of the paper.
"""
