"""The client: from a request to its starting point, a local phase and a reply."""
