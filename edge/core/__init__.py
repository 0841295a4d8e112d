"""What happens between a request and a model, and how versions come and go. Knows no protocol and no runtime."""
