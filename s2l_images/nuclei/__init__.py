"""Nuclei of one's own images: predicted, cleaned, told apart, and where to draw next."""
