"""A training on disk: under way, finished, released, and what it is a function of."""
