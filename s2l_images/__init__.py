"""A person's own images: strokes, annotations of other programs, checks, drawing, exports.

Knows no paper.
"""
