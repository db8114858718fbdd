"""A run: its parameters, its notebooks as a graph, executed and kept up to date."""
