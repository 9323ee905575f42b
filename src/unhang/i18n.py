"""Everything the terminal says passes through `_`, so that it can be said in another language."""

from __future__ import annotations

import gettext as _gettext
from pathlib import Path
from typing import Final

DOMAIN: Final = "unhang"
LOCALE_DIR: Final = Path(__file__).parent / "locale"

_translations: _gettext.NullTranslations = _gettext.NullTranslations()


def use_language(language: str | None) -> None:
    """Choose the language of all later messages.

    Args:
        language: A locale name such as `ko`; `None` follows LANGUAGE, LC_ALL and LANG. A language
            without a translation falls back to English.
    """
    global _translations
    languages = [language] if language else None
    _translations = _gettext.translation(DOMAIN, LOCALE_DIR, languages, fallback=True)


def _(message: str) -> str:
    """The message in the chosen language; fill in values with `str.format` afterwards."""
    return _translations.gettext(message)


def ngettext(singular: str, plural: str, n: int) -> str:
    """The form of a message that fits the number `n`."""
    return _translations.ngettext(singular, plural, n)
