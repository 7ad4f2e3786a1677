"""From image files to feature vectors: worker threads and Ray."""
