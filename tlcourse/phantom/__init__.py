"""Drawn chest radiographs whose findings are known; no medical data."""
