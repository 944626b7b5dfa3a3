"""The settings of a run: one frozen section a stage, read from TOML, every problem reported at once.

A command's options override the section of the same name in `WORK/valor.toml`, which overrides the defaults in
`sections.py`.
"""

from valor_data.config.read import config_from_dict, override, read_toml
from valor_data.config.sections import (
    EDITIONS,
    EXECUTORS,
    INCLUDES,
    MODALITIES,
    Config,
    ExecuteSection,
    FetchSection,
    FilterSection,
    ManifestSection,
    PublishSection,
    ShardSection,
    TrainDataSection,
    TrainSection,
    TrainValidationSection,
)

__all__ = [
    "EDITIONS",
    "EXECUTORS",
    "INCLUDES",
    "MODALITIES",
    "Config",
    "ExecuteSection",
    "FetchSection",
    "FilterSection",
    "ManifestSection",
    "PublishSection",
    "ShardSection",
    "TrainDataSection",
    "TrainSection",
    "TrainValidationSection",
    "config_from_dict",
    "override",
    "read_toml",
]
