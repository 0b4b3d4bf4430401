"""HiDream-I1: settings, what the family has of its own, and a miniature."""
