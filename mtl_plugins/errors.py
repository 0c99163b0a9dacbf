"""Errors meant for the person at the terminal: one sentence saying what was found, what was expected, what to do next."""


class UserError(RuntimeError):
    """Base of the errors that the command-line tools print as one line, without a stack trace."""


class ConfigError(UserError):
    """A config, a ``--cfg-options`` key or a command-line value is wrong."""


class CheckpointError(UserError):
    """A checkpoint cannot be read, does not fit the model, or cannot be written."""


class NonFiniteLossError(UserError):
    """A training loss became NaN or infinite."""
