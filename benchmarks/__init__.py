"""Speed and memory, measured against the pipeline as the reference built it: ``make bench``."""
