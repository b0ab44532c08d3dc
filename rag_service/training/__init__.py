"""Trains what the service ships: offline, resumable, seeded. Nothing that serves imports this room."""
