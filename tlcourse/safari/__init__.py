"""Drawn images: emoji in five styles on made-up backgrounds, in eight classes."""
