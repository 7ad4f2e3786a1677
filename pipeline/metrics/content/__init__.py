"""Content of captions: attributes, objects, held-out combinations."""
