"""The errors a user can cause or cure. Every message says what, where and how to fix it.

docs/reference/errors.md is written from this file: a docstring says what a class means, and after "Cure:" what helps.
"""


class PairloomError(Exception):
    """Base of every error that a user can cause or cure. Printed without a traceback.

    Cure: the last line of the message, after `fix:`, says it.
    """

    def __init__(self, what: str, where: str, fix: str) -> None:
        super().__init__(what, where, fix)  # all three, or a worker's error cannot be unpickled

    def __str__(self) -> str:
        return "{}\n  where: {}\n  fix: {}".format(*self.args[:3])


class ConfigError(PairloomError):
    """A setting is unknown, missing or out of range. Raised before any work.

    Cure: correct the setting that the message names, in params.yaml, the recipe or the command.
    """


class MissingColumnsError(ConfigError):
    """A recipe reads columns that the shards lack, or have without values. `columns` names them.

    Cure: run the stage that makes the columns, or set what keeps them, and make the shards again. `pairloom recipe
    check RECIPE SHARDS` says the same before training.
    """

    def __init__(self, what: str, where: str, fix: str, columns: tuple[str, ...]) -> None:
        super().__init__(what, where, fix)
        self.args = (what, where, fix, columns)
        self.columns = columns


class MissingExtraError(PairloomError):
    """A package of an optional part of pairloom is not installed.

    Cure: install the extra that the message names. `pairloom doctor` lists all of them.
    """


class SchemaError(PairloomError):
    """A table does not have the columns, types or values that its schema promises.

    Cure: make the table again with its stage. A file from elsewhere goes through `pairloom import`.
    """


class StoreError(PairloomError):
    """A table folder is missing, damaged, incomplete or was made with another configuration.

    Cure: run the stage again, which makes only what is missing. With other settings add `--redo`. `pairloom lint` and
    `pairloom verify` say which files are damaged.
    """


class MachineError(PairloomError):
    """This machine has run out of something, such as file descriptors. No shard is to blame, and none is skipped.

    Cure: free what the message names, or raise its limit. Then the same command resumes.
    """


class InputError(PairloomError):
    """A file that the user named cannot be read as what it should be.

    Cure: correct the row that the message names, or say with an option what the file is.
    """


class RunError(PairloomError):
    """A stage ran but did not do all it was asked, for example too few rows were kept.

    Cure: read the reasons in the quarantine (`pairloom info`). Then `pairloom retry` tries rows again, or a lower floor
    in params.yaml accepts the result.
    """
