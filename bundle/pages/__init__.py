"""The pages: notebooks as HTML, the index over all runs."""

from bundle.surroundings import without_grammar

without_grammar()  # before a page imports nbconvert
