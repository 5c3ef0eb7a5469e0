"""What is kept: the lake, and its readable mirror in git."""
