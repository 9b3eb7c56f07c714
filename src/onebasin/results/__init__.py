"""What a run leaves behind: its directory, history, checkpoints and summary."""
