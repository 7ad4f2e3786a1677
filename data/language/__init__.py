"""What captions in English name: things, their attributes, what they do."""
