"""Inference over MQTT: requests and answers by topics, and what the server says of itself, retained."""
