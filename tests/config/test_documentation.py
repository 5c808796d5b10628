"""What the documentation shows is accepted as it stands there, and means what it says."""

from pathlib import Path

import pytest

from ocelot.config import structs
from ocelot.config.loading import load
from ocelot.config.structs import Bootstrap, SuperviseFile
from tests.config.broken import problems

EXAMPLES = Path(__file__).with_name("examples")
SHELL = "postSwitch:\n  handoff:\n    mode: shell\n"
ROOT = "switchRoot:\n  rootFileSystem:\n"


def bootstrap(text: str) -> Bootstrap:
    loaded = load(text.encode(), "f", "bootstrap")
    assert problems(loaded) == []
    assert isinstance(loaded.config, Bootstrap)
    return loaded.config


def root(text: str) -> structs.Mount:
    config = bootstrap(ROOT + text + SHELL)
    assert config.switch_root is not None
    return config.switch_root.root_file_system


def process(text: str) -> structs.Process:
    loaded = load(f"processes:\n  p: {{program: /bin/p, {text}}}\n".encode(), "f", "supervise")
    assert problems(loaded) == []
    assert isinstance(loaded.config, SuperviseFile)
    return loaded.config.processes["p"]


def test_the_shell_example() -> None:
    loaded = load((EXAMPLES / "shell.yaml").read_bytes(), "f", "bootstrap")
    assert problems(loaded) == [
        'warning: f:27:14: postSwitch.handoff.program: "/bin/sh" cannot be executed: the root file system is mounted '
        "noExec (remove noExec in line 22)"
    ]
    assert loaded.config == Bootstrap(
        switch_root=structs.SwitchRoot(
            root_file_system=structs.VirtiofsMount(tag="rootfs", target="/", read_only=True, no_exec=True)
        ),
        post_switch=structs.PostSwitch(handoff=structs.Shell(program="/bin/sh")),
    )


def test_the_supervise_example() -> None:
    loaded = load((EXAMPLES / "supervise.yaml").read_bytes(), "f", "bootstrap")
    assert problems(loaded) == [
        'warning: f:32:18: postSwitch.handoff.processes.init.program: "/sbin/init" is an init, and most insist on '
        "being PID 1 (hand over to it with `mode: exec` instead)",
        'warning: f:33:5: postSwitch.handoff.http-server: "http-server" is taken as a process (indent it below '
        '"processes" in line 30)',
    ]
    assert loaded.config == Bootstrap(
        switch_root=structs.SwitchRoot(root_file_system=structs.VirtiofsMount(tag="rootfs", target="/")),
        post_switch=structs.PostSwitch(
            environment={"POD_NAMESPACE": "default"},
            sysctl={"net.core.somaxconn": "1024"},
            handoff=structs.Supervise(
                processes={
                    "init": structs.Process(program="/sbin/init"),
                    "http-server": structs.Process(program="/usr/bin/nginx", arguments=("-g", "daemon off;")),
                }
            ),
        ),
    )


def test_warnings_are_errors_only_when_asked() -> None:
    loaded = load((EXAMPLES / "shell.yaml").read_bytes(), "f", "bootstrap")
    assert loaded.valid()
    assert not loaded.valid(strict=True)


MODULES = """
preSwitch:
  modules:
    mode: list
    directory: /lib/modules
    names:
      - kernel/fs/9p/9p.ko.xz
      - kernel/net/9p/9pnet.ko.xz
      - kernel/drivers/virtio/virtio_pci.ko.xz
      - kernel/drivers/virtio/virtio_ring.ko.xz
"""


def test_the_modules_fragment_with_a_dep_file() -> None:
    modules = bootstrap(MODULES + "    depFilePath: modules.dep\n" + SHELL).pre_switch.modules
    assert modules is not None
    assert modules.dep_file_path == "modules.dep"
    assert modules.names[0] == "kernel/fs/9p/9p.ko.xz"


def test_the_modules_fragment_without_one_is_warned_about() -> None:
    loaded = load((MODULES + SHELL).encode(), "f", "bootstrap")
    assert [warning.line for warning in loaded.warnings] == [7, 9]
    assert not loaded.errors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type: virtiofs\n    tag: rootfs", structs.VirtiofsMount(tag="rootfs", target="/")),
        ("type: device\n    device: /dev/vda1", structs.DeviceMount(device="/dev/vda1", target="/")),
        ("type: block\n    device: UUID=1-2", structs.DeviceMount(device="UUID=1-2", target="/")),
        ("type: 9p\n    tag: rootfs", structs.NinePMount(tag="rootfs", target="/")),
        (
            "type: nfs\n    server: 192.168.1.1\n    export: /exports/rootfs",
            structs.NfsMount(server="192.168.1.1", export="/exports/rootfs", target="/"),
        ),
        (
            "type: overlay\n    lower: /lower\n    upper: /upper\n    work: /work",
            structs.OverlayMount(lower="/lower", upper="/upper", work="/work", target="/"),
        ),
    ],
)
def test_the_alternatives_of_the_root_one_by_one(text: str, expected: structs.Mount) -> None:
    assert root(f"    {text}\n    target: /\n    overlay: false\n") == expected


def test_all_mount_options_together() -> None:
    loaded = load(
        (
            ROOT
            + """
    type: virtiofs
    tag: rootfs
    target: /
    overlay: false
    readOnly: true # MS_RDONLY
    noExec: true # MS_NOEXEC
    noSuid: true # MS_NOSUID
    noDev: true # MS_NODEV
    sync: true # MS_SYNCHRONOUS
    dirSync: true # MS_DIRSYNC
    mandatoryLocks: true # MS_MANDLOCK
    posixAcl: true # MS_POSIXACL
    atime: noAtime # AtimeMode: noAtime, relAtime, strictAtime, lazyTime
"""
            + SHELL
        ).encode(),
        "f",
        "bootstrap",
    )
    assert not loaded.errors
    assert [warning.path for warning in loaded.warnings] == [
        "switchRoot.rootFileSystem.mandatoryLocks",
        "postSwitch.handoff.program",
    ]
    assert isinstance(loaded.config, Bootstrap)
    assert loaded.config.switch_root is not None
    mount = loaded.config.switch_root.root_file_system
    for flag in ("read_only", "no_exec", "no_suid", "no_dev", "sync", "dir_sync", "mandatory_locks", "posix_acl"):
        assert getattr(mount, flag) is True
    assert mount.atime is structs.Atime.NO_ATIME


@pytest.mark.parametrize("word", ["default", "noAtime", "relAtime", "strictAtime", "lazyTime"])
def test_access_times(word: str) -> None:
    assert root(f"    type: virtiofs\n    tag: a\n    atime: {word}\n").atime == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mode: shell\n    program: /bin/sh", structs.Shell()),
        (
            "mode: exec\n    program: /usr/bin/nginx\n    arguments:\n      - -g\n      - daemon off;",
            structs.Exec(program="/usr/bin/nginx", arguments=("-g", "daemon off;")),
        ),
        (
            "mode: supervise\n    processes:\n      nginx:\n        program: /usr/bin/nginx\n"
            "        arguments:\n          - -g\n          - daemon off;",
            structs.Supervise(
                processes={"nginx": structs.Process(program="/usr/bin/nginx", arguments=("-g", "daemon off;"))}
            ),
        ),
    ],
)
def test_the_hand_offs_one_by_one(text: str, expected: structs.Handoff) -> None:
    assert bootstrap(f"postSwitch:\n  handoff:\n    {text}\n").post_switch.handoff == expected


@pytest.mark.parametrize("policy", ["Warn", "Abort", "Retry", "warn", "ABORT", "rEtRy"])
@pytest.mark.parametrize("key", ["path", "command"])
def test_the_boot_script(policy: str, key: str) -> None:
    text = f"{SHELL}    bootScript:\n      {key}: /path/to/a/script.sh\n      onFailure: {policy}\n"
    handoff = bootstrap(text).post_switch.handoff
    assert handoff is not None
    assert handoff.boot_script == structs.BootScript(
        path="/path/to/a/script.sh", on_failure=structs.OnFailure(policy.capitalize())
    )


def test_every_optional_key_may_be_null() -> None:
    phase = (
        "{modules: null, mounts: , hooks: ~, symlinks: null, sysctl: null, tmpfiles: null, environment: null, "
        "network: null, clock: null, security: null"
    )
    text = f"""
console: null
logLevel:
preSwitch: {phase}}}
switchRoot: null
control: null
metrics: null
host: null
onFatal: null
shutdown: null
hostname: null
postSwitch: {phase}, handoff: {{mode: shell, program: null, arguments: null, bootScript: null}}}}
"""
    assert bootstrap(text) == Bootstrap(post_switch=structs.PostSwitch(handoff=structs.Shell()))


def test_texts_keep_what_is_written() -> None:
    config = bootstrap(
        "hostname: 0644\n"
        "preSwitch:\n"
        "  environment: {PORT: 8080, ON: on, YES: yes, NO: NO, T: true, MODE: 0644, F: 1e3, H: 0x1F, S: 12:30:45,"
        " D: 2024-01-01, E: , N: null, Q: 'null', V: 1.10, U: 1_000}\n"
        "  sysctl: {a.b: true, a.c: false, a.d: on, a.e: 'true', a/f: 010}\n" + SHELL
    )
    assert config.hostname == "0644"
    assert config.pre_switch.environment == {
        "PORT": "8080",
        "ON": "on",
        "YES": "yes",
        "NO": "NO",
        "T": "true",
        "MODE": "0644",
        "F": "1e3",
        "H": "0x1F",
        "S": "12:30:45",
        "D": "2024-01-01",
        "E": "",
        "N": "",
        "Q": "null",
        "V": "1.10",
        "U": "1_000",
    }
    assert config.pre_switch.sysctl == {"a.b": "1", "a.c": "0", "a.d": "on", "a.e": "true", "a/f": "010"}


def test_arguments_keep_what_is_written() -> None:
    assert process("arguments: [6379, on, 0644, 1e3, -v, '', \"a b\"]").arguments == (
        "6379",
        "on",
        "0644",
        "1e3",
        "-v",
        "",
        "a b",
    )


def test_one_tmpfile_needs_no_list() -> None:
    (item,) = bootstrap("preSwitch: {tmpfiles: {path: /run/a, mode: 0644}}\n" + SHELL).pre_switch.tmpfiles
    assert item == structs.Tmpfile(path="/run/a", mode=0o644)


@pytest.mark.parametrize("mode", ["0755", "755", "0o755", "'0755'", "'755'"])
def test_modes_are_octal_however_they_are_written(mode: str) -> None:
    (item,) = bootstrap(f"preSwitch: {{tmpfiles: [{{path: /run/a, mode: {mode}}}]}}\n{SHELL}").pre_switch.tmpfiles
    assert item.mode == 0o755


def test_a_hooks_timeout_in_both_spellings() -> None:
    text = "preSwitch: {hooks: [{name: a, command: b, timeout: 1m 30s}, {name: a, command: b, timeoutSecs: 1.5}]}\n"
    assert [hook.timeout for hook in bootstrap(text + SHELL).pre_switch.hooks] == [90.0, 1.5]


@pytest.mark.parametrize("text", ["shutdownTimeout: 2m", "shutdownTimeoutSecs: 120"])
def test_the_shutdown_timeout_in_both_spellings(text: str) -> None:
    loaded = load(f"{text}\nprocesses: {{a: {{program: /bin/a}}}}\n".encode(), "f", "supervise")
    assert problems(loaded) == []
    assert isinstance(loaded.config, SuperviseFile)
    assert loaded.config.shutdown_timeout == 120


@pytest.mark.parametrize("key", ["environment", "environmentVariables"])
def test_a_processes_environment_in_both_spellings(key: str) -> None:
    assert process(f"{key}: {{A: 1}}").environment_variables == {"A": "1"}


@pytest.mark.parametrize(
    "text",
    [
        "SIGINT",
        "INT",
        "sigint",
        "2",
        '"2"',
        "{type: name, value: SIGINT}",
        "{type: number, value: 2}",
        "{type: sigint}",
    ],
)
def test_the_forms_of_a_signal(text: str) -> None:
    assert process(f"shutdownSignal: {text}").shutdown_signal == 2


@pytest.mark.parametrize("version", ["1.0", '"1.0"'])
def test_the_version_with_and_without_quotes(version: str) -> None:
    assert not load(f"version: {version}\nprocesses: {{a: {{program: /bin/a}}}}".encode(), "f", "supervise").errors


def test_a_destination_of_type_null() -> None:
    assert process("log: {stdout: {destination: {type: null}}}").log.stdout.destination == structs.Null()


def test_a_restart_policy_in_full() -> None:
    policy = process(
        "restartPolicy: {type: OnFailure, maxRetries: 5, backoff: 0s, maxBackoff: 1m, multiplier: 1.5, "
        "resetAfter: 2m, successExitCodes: [0, 3]}"
    ).restart_policy
    assert policy == structs.RestartPolicy(
        type=structs.RestartType.ON_FAILURE,
        max_retries=5,
        backoff=0.0,
        max_backoff=60.0,
        multiplier=1.5,
        reset_after=120.0,
        success_exit_codes=(0, 3),
    )


@pytest.mark.parametrize(("key", "warned"), [("readOnly", False), ("noExec", True)])
def test_an_overlay_makes_a_root_writable_but_not_executable(key: str, warned: bool) -> None:
    """What a mount may not do holds for what is seen through the overlay over it, too."""
    text = f"""
switchRoot: {{rootFileSystem: {{type: virtiofs, tag: a, {key}: true, overlay: true}}}}
postSwitch:
  symlinks: [{{source: a, target: /b}}]
  handoff: {{mode: shell, program: /bin/sh}}
"""
    loaded = load(text.encode(), "f", "bootstrap")
    assert not loaded.errors
    assert [finding.path for finding in loaded.warnings] == ["postSwitch.handoff.program"] * warned


def test_a_program_on_a_mount_of_its_own_is_no_noexec_trap() -> None:
    text = (
        ROOT
        + "    {type: virtiofs, tag: a, noExec: true}\n"
        + "preSwitch: {mounts: [{type: device, device: /dev/vdb, target: /opt}]}\n"
        + "postSwitch: {handoff: {mode: exec, program: /opt/app}}\n"
    )
    bootstrap(text)
