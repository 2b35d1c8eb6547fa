"""Stage `sample`: its settings, and what `urls` may name."""

from __future__ import annotations

from typing import Any

import pytest

from pairloom.errors import ConfigError
from stages.sample import Config


@pytest.mark.parametrize("settings", [{"rows_per_shard": 0}, {"url_column": "caption"}, {"lang_column": "source"}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Config(**settings)
