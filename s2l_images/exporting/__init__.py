"""Files for other programs: labels, outlines, tables, strokes, and packages of a model."""
