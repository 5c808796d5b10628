"""``ocelot bootstrap try FILE --root DIR``: a boot rehearsed in throw-away namespaces on a desk.

The outer half (:func:`run`) reads the file and has ``bootstrap.trial_stage`` make the namespaces; the inner half
(:func:`rehearse`) is started there as PID 1 and lives the same life as on a machine. The folder is not written to.
"""

from __future__ import annotations

import sys

_INNER = "import sys; from ocelot.trial import rehearse; sys.exit(rehearse())"


def run(file: str, root: str) -> int:
    """Rehearse ``file`` with the folder ``root`` as the root file system; returns the exit status of the rehearsal."""
    from bootstrap import trial_stage
    from ocelot import beginning  # noqa: F401 - what it loads, the inner half will need: see trial_stage.interpreter
    from ocelot.config import report, structs
    from ocelot.config.loading import load_file
    from ocelot.errors import OcelotError
    from ocelot.log import wants_colour

    # Not checked against the folder: the paths of preSwitch belong to an initramfs that does not exist yet.
    loaded = load_file(file, "bootstrap")
    text = report.render(loaded, file, colour=wants_colour(2))
    if text:
        print(text.rstrip("\n"), file=sys.stderr)
    config = loaded.config
    if not isinstance(config, structs.Bootstrap):
        raise OcelotError(f'cannot try "{file}": it is not valid', hint="mend the lines shown above")
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
