"""Measurements of the algorithms, as `limner bench NAME` makes them."""
