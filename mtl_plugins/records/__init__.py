"""What trainings leave about themselves, and lists of it. Needs neither torch nor mmengine."""
