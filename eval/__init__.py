"""Measures: datasets to predictions to scores, with intervals, denominators and a signature of what was measured."""
