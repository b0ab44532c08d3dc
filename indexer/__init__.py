"""Fills the knowledge base: sources to labelled, embedded cases, and the guideline passages."""
