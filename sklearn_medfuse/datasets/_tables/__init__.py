"""Tables wherever they are, behind one SQL connection."""
