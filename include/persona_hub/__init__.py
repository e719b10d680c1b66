"""Persona Hub: personas from the web, and the training data that grows from them (arXiv 2406.20094)."""
