"""A model's code in a process of its own: the process, the line to it, the memory that both see."""
