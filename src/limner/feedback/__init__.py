"""People say which is better: what they are shown, what they said, and what it amounts to."""
