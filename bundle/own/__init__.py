"""Pictures of one's own: read, predicted by a finished run's network, shown on a page."""
