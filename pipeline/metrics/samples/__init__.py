"""Metrics of several captions per image: diversity, the oracle, and the consensus."""
