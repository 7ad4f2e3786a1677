"""The search for the options of a system: what it tries, its trials, and their record."""
