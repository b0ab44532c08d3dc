"""Remembers: cases, guideline passages, the stores that hold them and the search over them. No torch, no HTTP."""
