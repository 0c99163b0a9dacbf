"""Entry of tools that look for a setup.py; pyproject.toml describes the package."""

from setuptools import setup

setup()
