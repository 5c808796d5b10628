"""Keys beyond the records: other spellings that are taken, keys that later versions build, keys in the wrong place.

To build a key of ``NOT_BUILT``: add it to its record in ``structs`` and remove it here. The converter and the schema
both read these tables.
"""

from __future__ import annotations

from ocelot.config import structs

ALIASES: dict[type, dict[str, str]] = {
    structs.Process: {"environment": "environmentVariables"},
    structs.BootScript: {"command": "path", "environmentVariables": "environment"},
    structs.Hook: {"environmentVariables": "environment"},
}
"""Other spellings of a key, by record."""

SECONDS: dict[type, dict[str, str]] = {
    structs.Hook: {"timeoutSecs": "timeout"},
    structs.BootScript: {"timeoutSecs": "timeout"},
    structs.Supervise: {"shutdownTimeoutSecs": "shutdownTimeout"},
    structs.SuperviseFile: {"shutdownTimeoutSecs": "shutdownTimeout"},
}
"""Keys that take a plain number of seconds for a duration, by record."""

TAG_ALIASES: dict[str, str] = {"block": "device"}
"""Other spellings of a record's kind."""

SINGLE: tuple[type, ...] = (structs.Tmpfile, structs.Command)
"""Records that may stand alone where a list of them is expected."""

WORDS: dict[type, str] = {
    structs.Notify: "type",
    structs.Limit: "soft",
    structs.IoPriority: "class",
    structs.Dependency: "condition",
}
"""Records that may be written as one word, and the key whose value it is."""

LISTED: tuple[type, ...] = (structs.Dependency,)
"""Records of which a list of names is enough, where a map of them is expected: each is all defaults."""

NULL_ONLY: dict[type, tuple[str, ...]] = {
    structs.Phase: ("network", "clock", "security"),
    structs.PostSwitch: ("network", "clock", "security"),
}
"""Keys that may be there as long as they are null, by record."""

NOT_BUILT: dict[type, frozenset[str]] = {
    structs.Phase: frozenset({"network", "clock", "security"}),
    structs.PostSwitch: frozenset({"network", "clock", "security"}),
}
"""Keys of the documentation that this version does not implement, by record."""

_MOUNT_KINDS = (
    structs.VirtiofsMount,
    structs.DeviceMount,
    structs.NinePMount,
    structs.NfsMount,
    structs.OverlayMount,
    structs.VirtualMount,
    structs.BindMount,
)

_TOP_LEVEL = "it belongs to the top level of the file"
_PHASE_KEYS = ("modules", "mounts", "hooks", "symlinks", "sysctl", "tmpfiles", "environment")

MISPLACED: dict[type, dict[str, str]] = {
    phase: {
        "console": _TOP_LEVEL,
        "logLevel": _TOP_LEVEL,
        "hostname": _TOP_LEVEL,
        "control": _TOP_LEVEL,
        "metrics": _TOP_LEVEL,
        "onFatal": _TOP_LEVEL,
        "shutdown": _TOP_LEVEL,
        "switchRoot": _TOP_LEVEL,
        "rootFileSystem": 'it belongs to "switchRoot"',
        "processes": 'it belongs to "postSwitch.handoff"',
        "bootScript": 'it belongs to "postSwitch.handoff"',
    }
    for phase in (structs.Phase, structs.PostSwitch)
}
"""Keys that exist, but elsewhere, by the record where they are found."""

MISPLACED[structs.Phase]["handoff"] = 'it belongs to "postSwitch"'
MISPLACED[structs.Bootstrap] = {
    **dict.fromkeys((*_PHASE_KEYS, "network", "clock", "security"), 'it belongs to "preSwitch" or "postSwitch"'),
    "rootFileSystem": 'it belongs to "switchRoot"',
    "handoff": 'it belongs to "postSwitch"',
    "processes": 'it belongs to "postSwitch.handoff"',
    "bootScript": 'it belongs to "postSwitch.handoff"',
    "shutdownTimeout": 'it belongs to "postSwitch.handoff"',
    "version": "only the files of `ocelot supervise` have it",
}
MISPLACED[structs.SuperviseFile] = dict.fromkeys(
    ("preSwitch", "switchRoot", "postSwitch", "console", "handoff", "bootScript"),
    "this is a key of bootstrap files: use `ocelot bootstrap`, or leave it out",
)
MISPLACED[structs.SwitchRoot] = dict.fromkeys(
    ("type", "tag", "device", "target", "overlay", "readOnly"), 'it belongs to "rootFileSystem"'
)
for _kind in _MOUNT_KINDS:
    MISPLACED[_kind] = {
        "noAtime": "write `atime: noAtime`",
        "relAtime": "write `atime: relAtime`",
        "strictAtime": "write `atime: strictAtime`",
        "lazyTime": "write `atime: lazyTime`",
    }
MISPLACED[structs.Process] = {
    "args": 'did you mean "arguments"?',
    "command": 'write "program" and "arguments"',
    "env": 'did you mean "environmentVariables"?',
    "cwd": 'did you mean "workingDirectory"?',
    "after": 'write "dependsOn"',
    "requires": 'write "dependsOn"',
    "cron": "write `schedule: {cron: ...}`",
    "restart": 'did you mean "restartPolicy"?',
}
MISPLACED[structs.Hook] = {
    "program": 'did you mean "command"?',
    "path": 'did you mean "command"?',
    "args": 'did you mean "arguments"?',
    "env": 'did you mean "environment"?',
}
MISPLACED[structs.Command] = {
    "program": 'did you mean "command"?',
    "args": 'did you mean "arguments"?',
}
MISPLACED[structs.BootScript] = {
    "program": 'did you mean "path"?',
    "args": 'did you mean "arguments"?',
    "env": 'did you mean "environment"?',
}
