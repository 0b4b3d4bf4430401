"""Denoising as others' reinforcement learning sees it: Gymnasium environments (`pip install limner[gym]`)."""
