"""The round loop, the messages, the server, the client and the engines between them."""
