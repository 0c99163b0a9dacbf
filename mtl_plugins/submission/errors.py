"""Errors of writing, packing and grading submissions: one sentence each."""

from mtl_plugins.errors import UserError


class SubmissionError(UserError):
    """A submission cannot be written or packed."""


class InvalidPredictionError(SubmissionError):
    """A prediction is missing, superfluous, of the wrong type or size, or holds a value that the format does not allow."""


class InvalidArchiveError(SubmissionError):
    """A submission archive cannot be read, or holds something that it should not."""
