"""MEASURE: engines in, records and a report out."""
