"""Rewards over HTTP, for `remote(url=...)` and for other programs (`pip install limner[serve]`)."""
