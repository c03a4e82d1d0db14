"""CTC and the distillation losses; each masks by clip length, so padding inside a batch never counts."""
