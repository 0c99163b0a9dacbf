"""A small generated COCO."""
