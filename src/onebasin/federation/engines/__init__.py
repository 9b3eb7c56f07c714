"""Engines: how orders reach clients and replies come back. They carry bytes and know nothing of methods."""
