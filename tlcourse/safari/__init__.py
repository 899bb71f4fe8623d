"""Drawn images: OpenMoji drawings on made-up backgrounds, in eight classes."""
