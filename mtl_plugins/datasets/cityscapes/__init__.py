"""Street scenes with the classes of Cityscapes: Cityscapes itself and Synscapes."""
