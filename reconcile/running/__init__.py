"""Run a plan: stage, switch, clean; and undo it."""
