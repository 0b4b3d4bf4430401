"""A reward that was learned from what people said: a folder that `limner reward train` wrote."""
