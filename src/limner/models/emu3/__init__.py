"""Emu3, of transformers: a decoder over one vocabulary of words and codes, whose rows end with a token of their own."""
