"""Frozen model records, the film encoder with its box-latent head, and the text encoder."""
