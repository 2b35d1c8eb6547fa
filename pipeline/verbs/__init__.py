"""The subcommands of `pairloom`, one module a group. Each shows its verbs by a function `add`."""
