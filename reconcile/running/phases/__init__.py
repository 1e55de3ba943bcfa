"""The phases of a run, in the order of a document's way: refresh, stage, switch, clean; and their reverses."""
