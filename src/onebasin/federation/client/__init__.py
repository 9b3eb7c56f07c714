"""The client: from a request to a reply."""
