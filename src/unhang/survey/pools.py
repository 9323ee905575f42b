"""What the settings of an alias say of its pool, as the backend will read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from unhang.mysql.engine import OWN_ENGINES
from unhang.pool.options import NAMES, OptionError, parse_options
from unhang.survey.model import PoolFacts

OPTION_NAMES: Final = NAMES


def pool_facts(database: Mapping[str, Any]) -> PoolFacts | None:
    """The pool of one entry of DATABASES; `None` if it has none.

    Args:
        database: With Django's defaults filled in.
    """
    given = database["OPTIONS"].get("pool")
    if database["ENGINE"] not in OWN_ENGINES:
        return PoolFacts(ours=False) if given else None
    try:
        options = parse_options(given)
    except OptionError as error:
        return PoolFacts(ours=True, problem=str(error))
    return PoolFacts(
        ours=True,
        min_size=options.min_size,
        max_size=options.max_size,
        max_idle=options.max_idle,
        lease=options.lease,
    )
