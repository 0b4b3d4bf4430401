"""Rewards as expressions: `parse` reads one, `Composition` asks its judges and adds up."""
