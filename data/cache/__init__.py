"""The feature cache: its files, reading them, and writing them."""
