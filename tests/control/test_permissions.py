"""Who is who: roles by user and group, names from the account files."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocelot.config.structs import Roles
from ocelot.wire.protocol import Role
from supervisor.control.permissions import Accounts, Peer, role_of

ACCOUNTS = Accounts(users={"ada": 1000, "bob": 1001}, groups={"wheel": 10, "staff": 50})
ROLES = Roles(read=("@staff", "1002"), operate=("bob", "@nobody-knows"), admin=("@wheel",))


@pytest.mark.parametrize(
    ("peer", "role"),
    [
        (Peer(0), Role.ADMIN),
        (Peer(500), Role.ADMIN),
        (Peer(1000), None),
        (Peer(1000, frozenset({50})), Role.READ),
        (Peer(1002), Role.READ),
        (Peer(1001, frozenset({50})), Role.OPERATE),
        (Peer(1001, frozenset({50, 10})), Role.ADMIN),
        (Peer(10), None),  # a user with the number of a group
    ],
)
def test_the_highest_role_counts(peer: Peer, role: Role | None) -> None:
    assert role_of(peer, ROLES, own_uid=500, accounts=ACCOUNTS) == role


def test_without_roles_only_root_and_ocelot_itself_may_do_anything() -> None:
    assert role_of(Peer(1000, frozenset({0, 10})), Roles(), own_uid=500, accounts=ACCOUNTS) is None


def test_account_files_are_read_as_they_are(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/:/bin/sh\nada:x:1000:1000\nbroken\nbad:x:nine:1\nada:x:7:7::/:\n")
    (etc / "group").write_bytes(b"wheel:x:10:ada\n\xff\xfe:x:11:\n+::::\n")
    accounts = Accounts.load(str(tmp_path))
    assert accounts.users == {"root": 0, "ada": 1000}
    assert accounts.groups["wheel"] == 10


def test_missing_account_files_name_nobody(tmp_path: Path) -> None:
    assert Accounts.load(str(tmp_path)) == Accounts()
