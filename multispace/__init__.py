"""Image captioning with joint continuous and discrete latent spaces, from shared feature caches."""
