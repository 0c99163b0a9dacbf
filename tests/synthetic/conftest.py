"""The tools run as in tests/tools."""

from tests.tools.conftest import run_cli

__all__ = ['run_cli']
