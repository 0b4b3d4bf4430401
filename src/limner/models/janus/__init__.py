"""Janus and Janus-Pro, of transformers: a Llama decoder with embeddings and a head of its own for codes of pictures."""
