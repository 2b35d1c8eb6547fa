"""Steps of the installation that pip cannot do by itself. The Makefile runs them."""
