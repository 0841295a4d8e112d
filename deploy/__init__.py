"""How edge comes to be on a device. What lies here runs with the standard library alone."""
