"""What trainings leave about themselves, and lists of them. Light: neither torch nor mmengine, the tools list thousands of runs."""
