"""Errors of evaluation: one sentence that names the image."""

from mtl_plugins.errors import UserError


class EvaluationError(UserError):
    """A prediction or label cannot be scored, or not every image was scored exactly once."""
