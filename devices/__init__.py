"""One training on several devices, and in less of the memory of each. It knows torch, and nothing of recipes."""
