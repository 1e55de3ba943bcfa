"""What the database holds of runs: their tables, who reads and writes them, and what is reported of a run."""
