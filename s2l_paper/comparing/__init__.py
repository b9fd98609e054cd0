"""Methods and choices compared, with tests."""
