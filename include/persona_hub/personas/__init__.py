"""Text-to-Persona and Persona-to-Persona: page or persona → request; answer → persona or the reason why not."""
