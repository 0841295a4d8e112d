"""A link to an MQTT broker on the event loop, and the tree of topics that servers and agents speak in."""
