"""What can go wrong with networks and their weights."""


class ModelError(Exception):
    """A fault in weights, options or numbers that the user can mend; one line."""


class WeightsError(ModelError):
    """Weights that cannot be found, read, or fitted to the architecture."""


class CheckpointError(ModelError):
    """A checkpoint that is missing, damaged, or of another system."""
