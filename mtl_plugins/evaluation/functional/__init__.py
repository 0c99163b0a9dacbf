"""Pure NumPy functions that metrics and grader share."""
