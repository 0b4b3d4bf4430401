"""aMUSEd, of diffusers: a UViT fills in the codes of a VQ tokenizer, many places at a time."""
