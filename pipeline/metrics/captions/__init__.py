"""Scores of captions: COCO metrics, diversity, oracle."""
