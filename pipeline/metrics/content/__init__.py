"""What captions say: attributes, objects, held-out combinations."""
