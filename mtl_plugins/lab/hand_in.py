"""The final hand-in of a course: report, score sheet, run table and code in one archive."""

import re
from collections.abc import Mapping
from pathlib import Path

from mtl_plugins.errors import ArgumentError, SubmissionError
from mtl_plugins.records.config_data import wandb_key
from mtl_plugins.submission.archive import NOT_ALLOWED, zip_files
from mtl_plugins.utils.files import make_folder, replacing

TABLES = ('scores.csv', 'wandb.csv')
PARTS = ('report.pdf', *TABLES, 'code.zip')
_KEY_FILES = ('.key', '.pem', '.env', '.netrc')
# A text that a name calls a secret, or an access key of AWS.
_SECRET = re.compile(
    rb"""(?i:(?:api_?key|auth[._]?token|access_?(?:key|token)|password|secret)['"\]]*\s*[:=]\s*['"][\w/+=.-]{16,}['"])"""
    rb"""|\bAKIA[0-9A-Z]{16}\b"""
)


def pack_hand_in(archive: Path, name: str, parts: Mapping[str, bytes], code: Mapping[str, bytes]) -> Path:
    """Pack ``<name>.<part>`` of each of ``PARTS`` into ``archive``, which appears only when complete.

    Args:
        archive: The zip file to write; an earlier one is replaced.
        name: What the course asks for, such as ``'cvaiac25.team07.ex1'``.
        parts: Contents of all parts but ``code.zip``.
        code: Files of ``code.zip`` by their names, see :func:`~mtl_plugins.submission.archive.read_source`.

    Raises:
        ArgumentError: If ``name`` is none of a file.
        SubmissionError: If the report is no PDF, a file holds a key or password, or the archive cannot be written.
    """
    if not name or NOT_ALLOWED.search(name):
        raise ArgumentError(f'`name` should consist of letters, digits, ".", "_" and "-". Found {name!r}.')
    if not parts['report.pdf'].startswith(b'%PDF-'):
        raise SubmissionError(f'The report should be a PDF file, which begins with %PDF-. Found {parts["report.pdf"][:8]!r}.')
    known = wandb_key()
    for path, data in {**parts, **code}.items():
        if path.endswith(_KEY_FILES) or _SECRET.search(data) or (known and known.encode() in data):
            raise SubmissionError(f'{path} holds a key, token or password. Take it out before you hand the code in.')
    files = {**parts, 'code.zip': zip_files(code)}
    make_folder(archive.parent, SubmissionError)
    with replacing(archive, SubmissionError) as temporary:
        temporary.write_bytes(zip_files({f'{name}.{part}': files[part] for part in PARTS}))
    return archive
