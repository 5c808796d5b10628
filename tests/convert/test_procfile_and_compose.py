"""Procfiles and compose files: what becomes of each line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocelot.convert import compose
from ocelot.convert.command import convert
from ocelot.convert.draft import write
from ocelot.errors import OcelotError
from tests.convert.drafts import keys, losses, made


def test_a_procfile(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    draft = made(
        tmp_path,
        "Procfile",
        """\
        # the app
        web: bundle exec puma -p $PORT
        worker: bin/worker --queue "low, high"
        release: bin/migrate
        """,
    )
    web = keys(draft, "web")
    assert web["arguments"] == ["-c", "bundle exec puma -p $PORT"]
    assert web["environmentVariables"] == {"PORT": "5000"}
    assert web["environmentFile"] == str(tmp_path / ".env")
    assert keys(draft, "worker")["arguments"] == ["--queue", "low, high"]
    assert keys(draft, "release")["type"] == "oneshot"


def test_a_line_of_a_procfile_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(OcelotError, match="Procfile:2: nonsense"):
        made(tmp_path, "Procfile", "web: x\nnonsense\n")


COMPOSE = """\
    name: shop
    x-common: &common {restart: unless-stopped}
    services:
      db:
        <<: *common
        image: postgres:15
        command: ["postgres", "-c", "fsync=on"]
        environment: {POSTGRES_DB: shop, DEBUG: true}
        healthcheck: {test: ["CMD-SHELL", "pg_isready"], interval: 5s, timeout: 3s, retries: 5, start_period: 20s}
        stop_signal: SIGINT
        stop_grace_period: 1m
        volumes: ["data:/var/lib"]
        mem_limit: 512m
        ulimits: {nofile: {soft: 1024, hard: 2048}, core: -1}
      web:
        entrypoint: /app/run --port ${APP_PORT:-8080} --price $$5
        user: "1000:1000"
        working_dir: /app
        depends_on:
          db: {condition: service_healthy, restart: true}
          cache: {condition: service_started, required: false}
        ports: ["80:8080"]
        deploy: {replicas: 2, resources: {limits: {cpus: "0.5", memory: 64M, pids: 10}}}
        cap_add: [NET_ADMIN]
      cache:
        image: redis:7
        restart: on-failure:3
    volumes: {data: {}}
    """


def test_a_compose_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APP_PORT", raising=False)
    draft = made(tmp_path, "compose.yaml", COMPOSE)
    handler = {"type": "exec", "command": ["/bin/sh", "-c", "pg_isready"]}
    assert keys(draft, "db") == {
        "program": "postgres",
        "arguments": ["-c", "fsync=on"],
        "restartPolicy": {"type": "UnlessStopped"},
        "environmentVariables": {"POSTGRES_DB": "shop", "DEBUG": "true"},
        "readinessProbe": {"handler": handler, "period": "5s", "timeout": "3s", "failureThreshold": 5},
        "startupProbe": {"handler": handler, "period": "5s", "timeout": "3s", "failureThreshold": 9},
        "shutdownSignal": "SIGINT",
        "terminationGracePeriod": "60s",
        "resources": {"memoryMax": "512MiB"},
        "limits": {"nofile": {"soft": 1024, "hard": 2048}, "core": "unlimited"},
    }
    web = keys(draft, "web")
    assert web["arguments"] == ["--port", "8080", "--price", "$5"]
    assert (web["user"], web["group"], web["replicas"]) == ("1000", "1000", 2)
    assert web["dependsOn"] == {"db": {"condition": "Healthy", "restart": True}}
    assert web["resources"] == {"memoryMax": "64MiB", "cpuMax": "50%", "pidsMax": 10}
    assert web["capabilities"] == {"ambient": ["CAP_NET_ADMIN"]}
    text = write(draft)
    assert "# NOT CONVERTED: the file does not say what it runs" in text
    for lost in (
        "image: postgres:15",
        "volumes: ['data:/var/lib']",
        "ports: ['80:8080']",
        "depends_on: cache",
        "volumes: {'data': {}}",
    ):
        assert f"# not taken over: {lost}" in text


@pytest.mark.parametrize("text", ["services: [1]\n", "a: b\n", "services: {a: [}\n", "services: {a: 3}\n"])
def test_what_is_no_compose_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yml"
    path.write_text(text)
    with pytest.raises(OcelotError):
        convert([str(path)], "compose")


def test_the_restart_policy_of_a_deployment_wins(tmp_path: Path) -> None:
    draft = made(
        tmp_path,
        "compose.yaml",
        """
        services:
          web:
            command: sleep 1
            deploy: {restart_policy: {condition: on-failure, max_attempts: 3, delay: 5s, window: 2m}}
            restart: always
          never:
            command: sleep 1
            restart: always
            deploy: {restart_policy: {condition: none}}
        """,
    )
    assert keys(draft, "web")["restartPolicy"] == {
        "type": "OnFailure",
        "maxRetries": 3,
        "backoff": "5s",
        "multiplier": 1,
        "resetAfter": "120s",
    }
    assert "restartPolicy" not in keys(draft, "never")


def test_terminals(tmp_path: Path) -> None:
    draft = made(
        tmp_path,
        "compose.yaml",
        """
        services:
          game: {command: bedrock_server, stdin_open: true, tty: true}
          pipe: {command: cat, stdin_open: true}
          none: {command: cat, stdin_open: false, tty: false}
        """,
    )
    assert keys(draft, "game")["stdin"] == keys(draft, "pipe")["stdin"] == "pty"
    assert "stdin" not in keys(draft, "none")
    assert losses(draft, "game") == ""
    assert "stdin_open: true" in losses(draft, "pipe")


ODD = ("5", "word", "[a]", "[]", "{a: b}", "{}", "true", "1.5", "''")


@pytest.mark.parametrize("value", ODD)
def test_values_of_an_unexpected_form_are_named_and_lost(tmp_path: Path, value: str) -> None:
    for key in (*compose._KEYS, "command"):
        draft = made(tmp_path, "compose.yaml", f"services: {{web: {{command: sleep 1, {key}: {value}}}}}\n")
        assert draft.entries[0].keys["program"]
    for key in ("replicas", "resources", "restart_policy"):
        made(tmp_path, "compose.yaml", f"services: {{web: {{command: sleep 1, deploy: {{{key}: {value}}}}}}}\n")


def test_what_could_not_be_read_is_a_comment(tmp_path: Path) -> None:
    draft = made(
        tmp_path,
        "compose.yaml",
        """
        services:
          web:
            command: sleep 1
            cpus: many
            cap_add: ALL
            healthcheck: {test: [curl, -f, x]}
            deploy: {replicas: two, resources: {limits: {memory: 5m}}}
        """,
    )
    assert keys(draft, "web") == {"program": "sleep", "arguments": ["1"], "resources": {"memoryMax": "5MiB"}}
    for key in ("cpus: many", "cap_add: ALL", "healthcheck: {'test'", "deploy.replicas: two"):
        assert key in losses(draft, "web")


def test_the_environment_of_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "1")
    monkeypatch.delenv("NOT_HERE", raising=False)
    draft = made(
        tmp_path,
        "compose.yaml",
        """
        services:
          words: {command: x, environment: [HERE, HERE_NOT=, NOT_HERE, A=b=c]}
          pairs: {command: x, environment: {HERE: null, NOT_HERE: null, EMPTY: ''}}
          files: {command: x, env_file: [a.env, {path: b.env, required: false}]}
          none: {command: x, env_file: []}
        """,
    )
    assert keys(draft, "words")["environmentVariables"] == {"HERE": "1", "HERE_NOT": "", "A": "b=c"}
    assert keys(draft, "pairs")["environmentVariables"] == {"HERE": "1", "EMPTY": ""}
    assert "environment NOT_HERE" in losses(draft, "words")
    assert "environment NOT_HERE" in losses(draft, "pairs")
    assert keys(draft, "files")["environmentFile"] == str(tmp_path / "b.env")
    assert "env_file: a.env" in losses(draft, "files")
    assert "the file must exist" in losses(draft, "files")
    assert "environmentFile" not in keys(draft, "none")


def test_zero_in_a_health_check_stands_for_the_default(tmp_path: Path) -> None:
    check = "{test: [CMD, x], interval: 0s, timeout: 0s, retries: 0, start_period: 10s, start_interval: 0s}"
    draft = made(tmp_path, "compose.yaml", f"services: {{web: {{command: x, healthcheck: {check}}}}}\n")
    handler = {"type": "exec", "command": ["x"]}
    probe = {"handler": handler, "period": "30s", "timeout": "30s", "failureThreshold": 3}
    assert keys(draft, "web")["readinessProbe"] == probe
    assert keys(draft, "web")["startupProbe"] == {
        "handler": handler,
        "period": "5s",
        "timeout": "5s",
        "failureThreshold": 5,
    }


def test_a_compose_file_that_contains_itself(tmp_path: Path) -> None:
    with pytest.raises(OcelotError, match=r"services\.web has an alias of itself"):
        made(tmp_path, "compose.yaml", "services:\n  web: &web\n    command: x\n    labels: *web\n")


@pytest.mark.parametrize(("before", "after"), [("[", "]"), ("{<<: [", "]}")])
def test_aliases_of_aliases_are_bounded_as_in_our_own_files(tmp_path: Path, before: str, after: str) -> None:
    lines = ["x-0: &a0 {key: 1}"]
    lines += [f"x-{n}: &a{n} {before}{', '.join([f'*a{n - 1}'] * 9)}{after}" for n in range(1, 10)]
    with pytest.raises(OcelotError, match=r"more than 200000 values when its aliases are written out"):
        made(tmp_path, "compose.yaml", "\n".join([*lines, "services: {web: {command: x, labels: *a9}}\n"]))


@pytest.mark.parametrize("value", ["2024-13-45", "!!int abc", "!!timestamp soon", "!!bool perhaps"])
def test_a_value_that_is_not_what_it_looks_like_is_an_error_in_words(tmp_path: Path, value: str) -> None:
    with pytest.raises(OcelotError, match="cannot read"):
        made(tmp_path, "compose.yaml", f"x-since: {value}\nservices: {{web: {{command: x}}}}\n")
