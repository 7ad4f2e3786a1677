"""What the latent space carries."""
