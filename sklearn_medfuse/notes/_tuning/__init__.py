"""Fine-tuning of a note model."""
