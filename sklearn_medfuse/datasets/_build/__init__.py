"""From the tables of a source to a cohort, whatever the format."""
