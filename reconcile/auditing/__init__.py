"""Auditing: is a backend fit for documents (`check`), and is the archive what the catalog says (`verify`)."""
