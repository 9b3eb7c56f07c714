"""The server: requests, checks of replies, aggregation."""
