"""Scribble-supervised cell segmentation with multiscale contrastive regularisation (Oh, Lee, Jeong, ISBI 2022)."""

__version__ = "0.1.0"
