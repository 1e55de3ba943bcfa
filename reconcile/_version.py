"""The version of this tool, and of the JSON that its commands print (docs/scripting.md)."""

__version__ = "0.2.0"
OUTPUT_FORMAT = "1.0"
