"""The errors a user can cause or cure; every message says what, where and how to fix it."""


class PairloomError(Exception):
    """Base of every error that a user can cause or cure; printed without a traceback."""

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)  # all three, or a worker's error cannot be unpickled

    def __str__(self) -> str:
        return "{}\n  where: {}\n  fix: {}".format(*self.args[:3])


class ConfigError(PairloomError):
    """A setting is unknown, missing or out of range; raised before any work."""


class MissingColumnsError(ConfigError):
    """A recipe reads columns that the shards lack, or have without values; `columns` names them."""

    def __init__(self, what: str, where: str, fix: str, columns: tuple[str, ...]) -> None:
        super().__init__(what, where, fix)
        self.args = (what, where, fix, columns)
        self.columns = columns


class MissingExtraError(PairloomError):
    """A package of an optional part of pairloom is not installed."""


class SchemaError(PairloomError):
    """A table does not have the columns, types or values that its schema promises."""


class StoreError(PairloomError):
    """A table folder is missing, damaged, incomplete or was made with another configuration."""


class MachineError(PairloomError):
    """This machine has run out of something, such as file descriptors. No shard is to blame, and none is skipped."""


class InputError(PairloomError):
    """A file that the user named cannot be read as what it should be."""


class RunError(PairloomError):
    """A stage ran but did not do all it was asked, for example too few rows were kept."""
