"""The figures by which papers compare systems: pure functions of predictions, as their papers or code have them."""
