"""Rotation: the newest key signs, the older ones verify until nothing that they signed is left."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from uuid import uuid4

import jwt
import orjson
import pytest

from lakegate_chassis.tokens import InvalidToken, TokenVerifier, load_private_key, public_jwk
from lakegate_contracts.identity import Principal
from lakegate_gateway import keygen
from lakegate_gateway.identity.keyring import KeyRing
from lakegate_gateway.identity.tokens import Tokens

ADA = Principal(tenant="acme", subject="ada", scopes=("datasets:read",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keygen.make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def tokens(folder: Path) -> Tokens:
    return Tokens(KeyRing(folder), "https://lake.example", 3600)


def kid(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def jwks(folder: Path) -> list[str]:
    return [key["kid"] for key in orjson.loads((folder / keygen.PUBLIC).read_bytes())["keys"]]


def internal(ours: Tokens) -> str:
    return ours.for_service(ADA, "catalog")[0][1].decode().removeprefix("Bearer ")


def test_keys_are_made_once_and_the_private_one_is_private(tmp_path: Path) -> None:
    private, public = keygen.make_keys(tmp_path / "keys")
    before = private.read_bytes()
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    public.unlink()
    assert keygen.main([str(tmp_path / "keys")]) == 0
    assert private.read_bytes() == before
    assert orjson.loads(public.read_bytes()) == {"keys": [public_jwk(load_private_key(private))]}


def test_a_rotation_changes_the_signing_key_and_keeps_what_was_signed(folder: Path) -> None:
    ours, catalog = tokens(folder), TokenVerifier(folder / keygen.PUBLIC, "catalog")
    access, before = ours.access_token(ADA, uuid4()), internal(ours)
    assert keygen.main([str(folder), "--rotate"]) == 0
    ours._ring.reload()
    after = internal(ours)
    assert kid(after) != kid(before)
    assert [catalog.verify(token) for token in (after, before)] == [ADA, ADA]
    assert ours.verify_access_token(access).principal == ADA
    assert [key["kid"] for key in ours.jwks["keys"]] == jwks(folder) == [kid(after), kid(before)]


def test_a_replica_accepts_the_new_key_of_another_before_it_has_looked(folder: Path) -> None:
    one = tokens(folder)
    keygen.rotate(folder)
    two = tokens(folder)
    assert one.verify_access_token(two.access_token(ADA, uuid4())).principal == ADA
    assert kid(one.access_token(ADA, uuid4())) == kid(two.access_token(ADA, uuid4()))


def test_the_key_named_last_signs_whatever_the_order_of_the_rotations(folder: Path) -> None:
    made = [keygen.rotate(folder) for _ in range(3)]
    newest = public_jwk(load_private_key(made[-1]))["kid"]
    assert kid(internal(tokens(folder))) == newest == jwks(folder)[0]


def test_a_key_is_retired_once_nothing_that_it_signed_can_be_valid(folder: Path) -> None:
    old = kid(internal(tokens(folder)))
    new = keygen.rotate(folder)
    assert keygen.retire(folder) == []
    replaced = time.time() - keygen.RETIRE_AFTER_SECONDS - 1
    os.utime(new, (replaced, replaced))
    assert keygen.main([str(folder), "--retire"]) == 0
    assert old not in jwks(folder)
    assert len(jwks(folder)) == 1
    assert keygen.retire(folder) == []  # the last one stays


def test_a_key_that_was_taken_away_verifies_nothing_more(folder: Path) -> None:
    ours, catalog = tokens(folder), TokenVerifier(folder / keygen.PUBLIC, "catalog")
    stolen = keygen.make_keys(folder)[0]
    access, before = ours.access_token(ADA, uuid4()), internal(ours)
    assert catalog.verify(before) == ADA
    keygen.rotate(folder)
    stolen.unlink()
    keygen.make_keys(folder)
    ours._ring.reload()
    catalog._check_at = 0
    with pytest.raises(InvalidToken, match="not in use"):
        ours.verify_access_token(access)
    with pytest.raises(InvalidToken, match="not in the JWKS"):
        catalog.verify(before)


def test_a_broken_folder_leaves_the_keys_as_they_are(folder: Path) -> None:
    ours = tokens(folder)
    before = internal(ours)
    (folder / "zzz.pem").write_text("no key")
    ours._ring.reload()
    assert kid(ours.access_token(ADA, uuid4())) == kid(before)
    for file in folder.glob("*.pem"):
        file.unlink()
    ours._ring.reload()
    assert kid(ours.access_token(ADA, uuid4())) == kid(before)


def test_one_file_is_a_ring_of_one(folder: Path) -> None:
    ring = KeyRing(keygen.make_keys(folder)[0])
    assert [key["kid"] for key in ring.jwks["keys"]] == jwks(folder)
    with pytest.raises(ValueError, match="holds no"):
        KeyRing(folder.parent)
