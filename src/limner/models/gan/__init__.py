"""A conditional GAN: a Stable Diffusion 3 pipeline that is asked once, and what it played against."""
