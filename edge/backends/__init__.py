"""One module for each runtime, imported when the first model of its platform is loaded."""
