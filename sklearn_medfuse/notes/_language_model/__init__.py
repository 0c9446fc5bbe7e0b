"""Find, check, load and run a Hugging Face model that embeds notes, and keep its vectors."""
