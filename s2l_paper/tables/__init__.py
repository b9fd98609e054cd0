"""Table 1, and what the paper claims, judged."""
