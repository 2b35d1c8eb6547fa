"""Keeps pairloom quiet: its libraries neither report usage nor look for newer versions or files on a hub.

The lowest layer, so that every process of ours, a Dask worker too, has these settings before it imports a library that
reads them. Whatever the user has set stays: `HF_HUB_OFFLINE=0 pairloom …` reaches the hub again. DVC's own settings are
in .dvc/config. Its variable here covers a dataset folder outside the project.
"""

import os

SETTINGS = {
    "NO_ALBUMENTATIONS_UPDATE": "1",  # img2dataset imports albumentations, which asks for its newest version at import
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_MODE": "disabled",  # img2dataset imports wandb
    "WANDB_ERROR_REPORTING": "false",
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
}


def stay_offline() -> None:
    """Set every setting that the user has not set."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
