"""Parts of `preprocess`: choice of the backbone, held-out pairs, estimates, the result."""
