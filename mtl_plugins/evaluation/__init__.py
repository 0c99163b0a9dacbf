"""Scores: pure functions, metrics on them, and label folders. Light, for the grader."""
