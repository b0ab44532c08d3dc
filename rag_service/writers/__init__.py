"""Writers by name: other models than our own decoder behind the same port, and so behind the same verification."""
