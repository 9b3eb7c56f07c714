"""What is learned: data sets, partitions over clients, models and metrics. Knows nothing of federations."""
