"""``ocelot bootstrap try FILE --root DIR``: a boot rehearsed in throw-away namespaces on a desk.

The outer half (:func:`run`) reads the file and has ``bootstrap.trial_stage`` make the namespaces; the inner half
(:func:`rehearse`) is started there as PID 1 and lives the same life as on a machine. The folder is not written to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ocelot.config.structs import Bootstrap

_INNER = "import sys; from ocelot.trial import rehearse; sys.exit(rehearse())"


def run(file: str, config: Bootstrap, root: str) -> int:
    """Rehearse ``file``, which says ``config``, with the folder ``root`` as the root file system; returns the exit status.

    It was not checked against the folder: the paths of preSwitch belong to an initramfs that does not exist yet.
    """
    from bootstrap import trial_stage
    from ocelot import beginning  # noqa: F401 - what it loads, the inner half will need: see trial_stage.interpreter

    with open(file, "rb") as opened:
        content = opened.read()
    stage = trial_stage.Stage(
        root,
        content,
        switches=config.switch_root is not None,
        programs=bool(config.pre_switch.hooks),
        interpreter=trial_stage.interpreter(),
    )
    return trial_stage.run(stage, ("-c", _INNER))


def rehearse() -> int:
    """The inner half: PID 1 of the trial's namespaces."""
    from bootstrap.trial import FILE
    from ocelot.init import bootstrap

    return bootstrap(FILE, trial=True)
