"""The drawing board in the notebook."""
