"""Which engine sets the pages: Pango where the system has it, else Pillow with what pip installs."""

from data_pipeline.errors import DataError
from data_pipeline.render.fonts import FontSet
from data_pipeline.render.page import Engine


def open_engine(name: str, fonts: FontSet) -> Engine:
    """The engine `name`: "pango", "pillow", or "auto": Pango if libpango can be loaded, else Pillow.

    Raises DataError when "pango" is asked for by name and cannot be loaded.
    """
    if name == "pillow":
        return _pillow(fonts)
    try:
        from data_pipeline.render.pango_engine import PangoEngine

        return PangoEngine(fonts)
    except (
        ImportError,
        OSError,
        AttributeError,
    ) as error:  # the binding, its library, or a function of it is not there
        if name == "pango":
            raise DataError(
                f"corpus.engine=pango: libpango cannot be used ({_first_line(error)}). On Debian or Ubuntu: apt-get install "
                "libpangocairo-1.0-0; without root: corpus.engine=pillow, which sets simple scripts only"
            ) from None
        return _pillow(fonts)


def describe(engine: Engine) -> str:
    """One line for the user: which engine is used, and what it cannot do."""
    if engine.name == "pango":
        return f"pages are typeset by pango {engine.version}"
    return (
        f"pages are typeset by pillow {engine.version}, as libpango is not used here: Latin, Greek, Cyrillic, Armenian and "
        "Georgian only, one font a page"
    )


def _pillow(fonts: FontSet) -> Engine:
    from data_pipeline.render.pillow_engine import PillowEngine

    return PillowEngine(fonts)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
