"""Building parts of other libraries, which look for their own parts among their own."""

from typing import Any

from mtl_plugins.registry import MODELS


def build_part(config: dict, **arguments: Any) -> Any:
    """Build a config whose ``type`` may name a library, as ``mmseg.ASPPHead`` does.

    What the part builds itself is then looked up in that library first: this package has an ASPPHead as well.

    Args:
        config: With ``type``.
        **arguments: Where the config does not say otherwise.
    """
    scope, dot, _ = config['type'].rpartition('.') if isinstance(config.get('type'), str) else ('', '', '')
    return MODELS.build({**arguments, **config, **({'_scope_': scope} if dot else {})})
