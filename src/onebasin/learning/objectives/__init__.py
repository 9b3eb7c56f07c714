"""The objectives that clients can minimise, a file each."""
