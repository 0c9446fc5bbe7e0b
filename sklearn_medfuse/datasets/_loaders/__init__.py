"""One file per format: where its tables are, and which column holds what."""
