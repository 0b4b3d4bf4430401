"""A conditional GAN over the latents of an autoencoder, trained here: no library has a class for it."""
