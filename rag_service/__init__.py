"""Reasons: film and prompt to findings, evidence, and a cited, grounded, calibrated report."""
