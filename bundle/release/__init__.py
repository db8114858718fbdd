"""A finished run as it is committed, and its verification."""
