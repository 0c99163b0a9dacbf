"""Records of trainings, and lists of them. Needs neither torch nor mmengine."""
