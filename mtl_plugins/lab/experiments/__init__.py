"""Many trainings from one file: what is tried, who runs it, what came out."""
