"""The scenes world: captions, pictures, and an exact checker that reads pixels only."""
