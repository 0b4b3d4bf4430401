"""What there is, by name, and what a name of the user's own means."""
