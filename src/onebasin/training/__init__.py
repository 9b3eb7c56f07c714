"""Local optimisation: what one client does with its own data between two messages."""
