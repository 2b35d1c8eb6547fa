"""Fixed numbers of the original systems' code, how they were made, and tests that ours gives the same.

A system has a module that names its sources, draws inputs by seed and runs the original on them, a .json file with what
came out, and a test. No code of others is kept here. `make.py` says how to make the numbers again.
"""
