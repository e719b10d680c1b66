"""What the benches ask: two kilobytes, a number apart. Imports nothing, for the peers' environment."""

WORDS = "A page of some two thousand characters, as a stage shows it to a model. " * 28


def make_question(number: int) -> str:
    return f"{number} {WORDS}"
