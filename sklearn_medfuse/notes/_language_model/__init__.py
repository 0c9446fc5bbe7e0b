"""A Hugging Face model that embeds notes: found, checked, loaded, run, and its vectors kept."""
