"""The aggregation rules, a file each."""
