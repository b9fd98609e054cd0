"""What was drawn in other programs: their files, as pixels of the classes."""
