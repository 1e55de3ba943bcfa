"""What people read: a plan, or what a run did, as a page; and pages as text, Markdown and HTML."""
