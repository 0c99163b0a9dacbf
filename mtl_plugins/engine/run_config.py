"""Config of a run."""

from mmengine.config import Config


class RunConfig(Config):
    """A config whose text is formatted anew only where it has changed.

    mmengine has yapf format it for every checkpoint, which takes as long as several steps of a small model.
    """

    @classmethod
    def of(cls, config: Config) -> 'RunConfig':
        """The same config; entries are shared with the given one."""
        made = cls.__new__(cls)
        made.__dict__.update(config.__dict__)
        return made

    @property
    def pretty_text(self) -> str:
        """The config as Python code, formatted."""
        attributes = self.__dict__  # mmengine takes what is set as an attribute for an entry
        formatted = attributes['_format_python_code']
        try:
            attributes['_format_python_code'] = False
            code = super().pretty_text
        finally:
            attributes['_format_python_code'] = formatted
        if attributes.get('_code') != code:
            attributes.update(_code=code, _pretty_text=super().pretty_text)
        return attributes['_pretty_text']
