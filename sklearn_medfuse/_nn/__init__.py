"""Torch modules of the method; nothing here knows scikit-learn."""
