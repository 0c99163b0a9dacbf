"""Scores: pure functions, metrics on them, label folders and the per-position baseline. Light, for the grader."""
