"""A study: runs and seeds of a plan, here or on a cluster, shown together."""
