"""Networks and their specifications."""
