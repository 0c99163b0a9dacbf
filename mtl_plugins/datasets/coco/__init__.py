"""COCO: instance annotations as label maps and object crops."""
