"""Results of others: a folder of records, outcomes and weights, checked and re-run before it may join a board."""
