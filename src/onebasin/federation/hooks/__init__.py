"""What choices of a method add to a round, on both sides, a file each."""
