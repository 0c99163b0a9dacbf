"""Submission archives: writing predictions, packing and grading. Needs neither torch nor the registries."""

from mtl_plugins.submission.archive import build_archive, find_image_sizes, make_run_name, name_of_file
from mtl_plugins.submission.writer import SubmissionWriter

__all__ = [
    'SubmissionWriter',
    'build_archive',
    'find_image_sizes',
    'make_run_name',
    'name_of_file',
]
