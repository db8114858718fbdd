"""The pages: notebooks as HTML, the index over all runs."""
