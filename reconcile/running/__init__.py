"""Run a plan: stage, switch, clean; and take it back."""
