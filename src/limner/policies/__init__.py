"""A model plus how it is sampled: one file per family of generators."""
