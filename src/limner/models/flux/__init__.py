"""FLUX.1, dev and schnell: settings, what the family has of its own, and a miniature."""
