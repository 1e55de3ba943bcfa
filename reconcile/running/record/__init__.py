"""What the database holds of runs: their tables, who reads and writes them, and what is told of a run from there."""
