"""Pictures: the paper's two, charts of runs, and what networks hold apart."""
