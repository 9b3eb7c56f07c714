"""What a method is: one setting for each question, the rules of aggregation, a page for each paper."""
