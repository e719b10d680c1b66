"""Persona to training data: the registry, and one module per data type."""
