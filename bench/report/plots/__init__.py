"""The report's plots, each one function from records to an SVG figure."""
