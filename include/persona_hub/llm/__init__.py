"""Messages in, completions out: one client for every OpenAI-compatible endpoint."""
