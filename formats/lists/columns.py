"""How the columns of a user's list are called."""

from __future__ import annotations

from dataclasses import dataclass

from pairloom.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ListColumns:
    """Names of a list's columns. One beyond url and caption may be missing, unless it was renamed here."""

    url_column: str = "url"  # address of the image
    # one caption, or a list of them (in text: a JSON list). Several columns: the captions of all, null: none
    caption_column: str | tuple[str, ...] | None = "caption"
    # what the captions of each of these columns are: original, alt, synthetic, region, translation, question, …
    kinds: tuple[str, ...] = ()
    lang_column: str = "lang"  # one BCP 47 code for all captions of a row, or a list of one each
    licence_column: str = "licence"  # carried along
    source_column: str = "source"  # where the pair is from, carried along
    checksum_column: str = "checksum"  # md5:… or sha256:…, or the bare hex digits
    columns: tuple[str, ...] = ()  # names of the columns of csv and tsv files that have no header line
    quotes: bool = True  # false: a quotation mark in csv or tsv is a letter like any other, as in Conceptual Captions

    drop: tuple[str, ...] = ()  # columns that are not carried along in `extra`, such as pictures as bytes

    def __post_init__(self) -> None:
        columns = [self.url_column, *self.captions, *self.optional_columns().values()]
        doubled = sorted({name for name in columns if name and columns.count(name) > 1})
        if doubled:
            raise ConfigError(
                f"sample names the column {doubled[0]!r} for two purposes",
                where="params.yaml",
                fix="name another column, or one that the list does not have",
            )
        if self.kinds and len(self.kinds) != len(self.captions):
            raise ConfigError(
                f"sample.kinds has {len(self.kinds)} kinds for {len(self.captions)} columns of captions",
                where="params.yaml",
                fix="give each column of sample.caption_column a kind, in the same order",
            )

    @property
    def captions(self) -> tuple[str, ...]:
        """The columns of captions."""
        if self.caption_column is None:
            return ()
        return (self.caption_column,) if isinstance(self.caption_column, str) else self.caption_column

    def kind_of(self, column: str) -> str | None:
        """What the captions of a column are, if the settings say it."""
        return self.kinds[self.captions.index(column)] if self.kinds else None

    def optional_columns(self) -> dict[str, str]:
        """What a column gives -> how the list calls it."""
        return {
            "lang": self.lang_column,
            "licence": self.licence_column,
            "source": self.source_column,
            "checksum": self.checksum_column,
        }

    def must_exist(self) -> list[str]:
        """Columns that a list must have: the url, the caption, and those that the user has named."""
        named = [name for purpose, name in self.optional_columns().items() if name != purpose]
        return [self.url_column, *self.captions, *named]
