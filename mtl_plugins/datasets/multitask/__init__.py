"""Data sets of images with label maps in files."""
