"""A split decoded once, and its statistics."""
