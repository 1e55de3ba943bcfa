"""Workers: what works on parts of a run in another process than the one that leads it."""
