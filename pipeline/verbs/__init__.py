"""The subcommands of `pairloom`, one module a group; each shows its verbs by a function `add`."""
