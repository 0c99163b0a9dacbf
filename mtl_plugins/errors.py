"""Errors meant for the person at the terminal: one sentence saying what was found, what was expected, what to do next."""

from collections.abc import Sequence


class UserError(RuntimeError):
    """Base of the errors that the command-line tools print as one line, without a stack trace."""


class ConfigError(UserError):
    """A config, a ``--cfg-options`` key or a command-line value is wrong."""


class ArgumentError(UserError, ValueError):
    """An argument of a class or function has a value that it does not accept; the message says which are accepted."""


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raise ArgumentError if the value of an argument is none of the choices."""
    if value not in choices:
        raise ArgumentError(f'`{name}` should be one of {list(choices)}. Found {value!r}.')


class CheckpointError(UserError):
    """A checkpoint cannot be read, does not fit the model, or cannot be written."""


class TrainingInterrupted(SystemExit):
    """A signal asked the training to end, and its state is saved.

    No error, so that nothing that goes on after errors goes on after it: uncaught it ends the process, with status 75, or 0 under
    ``torchrun``, which would start the training again.
    """


class NonFiniteLossError(UserError):
    """A training loss became NaN or infinite."""


class NonFiniteGradientError(UserError):
    """The gradients of a training step became NaN or infinite."""


class DataError(UserError):
    """A data folder or file does not hold what its format promises; the message names the path."""


class DataNotFoundError(DataError):
    """A data root, split or file does not exist."""


class SplitNotFoundError(DataNotFoundError):
    """A data root has no folder, or no list, for a split."""


class CorruptFileError(DataError):
    """A file exists but cannot be decoded, or decodes to something the format does not allow."""


class SubmissionError(UserError):
    """A submission cannot be written, packed or read, or holds something that it should not."""


class InvalidPredictionError(SubmissionError):
    """A prediction is missing, superfluous, of the wrong type or size, or holds a value that the format does not allow."""


class EvaluationError(UserError):
    """A prediction or label cannot be scored, or not every image was scored exactly once."""
