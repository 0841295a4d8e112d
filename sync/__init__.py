"""The agent that brings signed model versions to a device, and the operator's tools."""
