"""What crosses between server and client: the message format, what its bytes mean, and what they cost."""
