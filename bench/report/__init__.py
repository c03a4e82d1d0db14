"""REPORT: records in, one self-contained page, its Markdown twin and its figures out. Never measures."""
