"""Speed and memory of this package beside its peers; run by ``tools/analysis_tools/benchmark.py``. Imports nothing."""
