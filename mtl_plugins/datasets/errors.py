"""Errors of data on disk. Each carries one sentence: what was found, what was expected, what to do next."""

from mtl_plugins.errors import UserError


class DataError(UserError):
    """A data folder or file does not hold what its format promises; the message names the path."""


class DataNotFoundError(DataError):
    """A data root, split or file does not exist."""


class CorruptFileError(DataError):
    """A file exists but cannot be decoded, or decodes to something the format does not allow."""
