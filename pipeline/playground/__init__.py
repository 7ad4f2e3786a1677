"""The page of `app`: images, their captions by several systems, and latents to set by hand."""
