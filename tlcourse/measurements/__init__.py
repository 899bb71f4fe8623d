"""Results files, and what the chapter concludes from them."""
