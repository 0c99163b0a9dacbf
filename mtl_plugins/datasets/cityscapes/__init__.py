"""Cityscapes, its arrays in the literature, and Synscapes."""
