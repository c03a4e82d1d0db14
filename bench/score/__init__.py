"""Scoring of ctm hypotheses against stm references by the protocols in use."""
