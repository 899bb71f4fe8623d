"""Data sets: what they are, where they come from, and reading image folders safely."""
