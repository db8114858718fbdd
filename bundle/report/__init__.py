"""What the report and the tables say, in sentences and figures."""
