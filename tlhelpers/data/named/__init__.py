"""The named data sets of the full profile, one module for each source."""
