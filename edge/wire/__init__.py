"""Bytes ↔ domain. No I/O in here."""
