"""What the operator sets: attrs classes filled from flags, environment and one TOML file, in that order of strength, then defaults.

A service brings its own section; `read_section` fills its class when the service is loaded. Whatever is wrong is found all at once, each problem with
the line, variable or flag it came from and what would be right.
"""

from __future__ import annotations

from uait.settings.load import check_settings as check_settings
from uait.settings.load import load_settings as load_settings
from uait.settings.model import RESERVED as RESERVED
from uait.settings.model import Limits as Limits
from uait.settings.model import ServiceSection as ServiceSection
from uait.settings.model import Settings as Settings
from uait.settings.sections import read_section as read_section
from uait.settings.sections import unknown_sections as unknown_sections
from uait.settings.values import did_you_mean as did_you_mean
