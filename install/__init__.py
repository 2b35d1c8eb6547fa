"""Steps of the installation that pip cannot do by itself; the Makefile runs them."""
