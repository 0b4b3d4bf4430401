"""Processes of a Ray cluster, which hold a judge or a model and are asked for what it does."""
