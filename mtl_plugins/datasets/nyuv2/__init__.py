"""NYU Depth V2."""
