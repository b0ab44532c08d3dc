"""Readers of public film collections, shared by the indexer, the measurements and the training program."""
