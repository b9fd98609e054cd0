"""Forest and network on one's own strokes, and which of the two is exported."""
