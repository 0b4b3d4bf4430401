"""Credit assignment and loss, one file per algorithm."""
