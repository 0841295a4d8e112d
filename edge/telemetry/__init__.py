"""Counters and logs, handed in to those who use them."""
