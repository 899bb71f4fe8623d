"""What the layers of a network compute."""
