"""What a row says. Pure."""
