"""SHIP: what runs beside the model: contract, preprocessing, decoding, scoring, engines. Python >= 3.8, numpy only."""
