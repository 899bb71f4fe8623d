"""Networks: which there are, their weights, their heads and blocks, and freezing that holds."""
