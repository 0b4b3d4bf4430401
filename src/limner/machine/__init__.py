"""What this machine is and can do, before money is spent on it."""
