"""The nouns, and what may happen to them. Pure: no I/O, no clock, no import from the rest of the project."""
