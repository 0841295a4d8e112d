"""What the demo of a fleet is made of."""
