"""Parts of preprocess: held-out pairs, estimates."""
