"""Reports on runs as one page."""
