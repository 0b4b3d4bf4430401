"""Pictures as tokens: a VQ tokenizer of diffusers and a causal decoder of transformers, over one vocabulary."""
