"""The files of a feature cache: manifest, shards, key lists, and how they are checked."""
