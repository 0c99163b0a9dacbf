"""Reports on runs as one page, and the page that shows them while they run."""
