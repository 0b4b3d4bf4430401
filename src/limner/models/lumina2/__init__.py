"""Lumina Image 2: settings, what the family has of its own, and a miniature."""
