"""The failures that the commands turn into one line and exit status 1."""

from data.errors import DataError
from model.errors import ModelError


class PipelineError(Exception):
    """A stage that cannot do what was asked; one line with the mend."""


class OptionError(PipelineError):
    """Options that contradict each other or what is already on disk (exit status 2)."""


FAILURES = (DataError, ModelError, PipelineError)
