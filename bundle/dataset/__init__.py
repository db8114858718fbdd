"""The dataset's files: found, fetched, verified; and the competition's."""
