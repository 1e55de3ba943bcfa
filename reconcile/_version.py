"""The version of this tool, and of the JSON that its commands print (docs/scripting.md)."""

__version__ = "0.1.0"
OUTPUT_FORMAT = "1.0"
