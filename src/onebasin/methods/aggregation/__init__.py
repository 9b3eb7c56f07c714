"""The aggregation rules, one per file; the file's name is the name in configurations (`method.combine`)."""
