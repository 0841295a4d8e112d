"""`edge doctor`: what a server needs of this device, and what to do where it is not there. Changes nothing."""
