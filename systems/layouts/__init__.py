"""How published weights are named, program by program, and where each of their tensors goes in a model here."""
