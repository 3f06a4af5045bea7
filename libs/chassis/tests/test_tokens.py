from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from lakegate_chassis.tokens import CACHE_ENTRIES, CHECK_SECONDS, ClockSkew, InvalidToken, TokenSigner, TokenVerifier
from lakegate_contracts.identity import DELEGATION_TYPE, Principal

ALICE = Principal(tenant="acme", subject="alice", scopes=("loads:write@travel.*", "datasets:read"))


@pytest.fixture
def signer() -> TokenSigner:
    return TokenSigner(Ed25519PrivateKey.generate())


@pytest.fixture
def jwks(tmp_path: Path, signer: TokenSigner) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(orjson.dumps({"keys": [signer.jwk]}))
    return path


def test_a_minted_token_brings_back_its_principal(signer: TokenSigner, jwks: Path) -> None:
    assert TokenVerifier(jwks, "catalog").verify(signer.mint(ALICE, "catalog")) == ALICE


def test_a_token_for_another_service_is_refused(signer: TokenSigner, jwks: Path) -> None:
    with pytest.raises(InvalidToken, match="udience"):
        TokenVerifier(jwks, "catalog").verify(signer.mint(ALICE, "ingest"))


def test_a_delegation_is_no_internal_token(signer: TokenSigner, jwks: Path) -> None:
    token = signer.mint(ALICE, "catalog", token_type=DELEGATION_TYPE)
    with pytest.raises(InvalidToken, match="is no lakegate-internal"):
        TokenVerifier(jwks, "catalog").verify(token)


def test_a_token_of_a_foreign_key_is_refused(jwks: Path) -> None:
    token = TokenSigner(Ed25519PrivateKey.generate()).mint(ALICE, "catalog")
    with pytest.raises(InvalidToken, match="not in the JWKS"):
        TokenVerifier(jwks, "catalog").verify(token)


def test_a_changed_token_is_refused(signer: TokenSigner, jwks: Path) -> None:
    head, body, signature = signer.mint(ALICE, "catalog").split(".")
    forged = ".".join((head, body, signature[::-1]))
    with pytest.raises(InvalidToken):
        TokenVerifier(jwks, "catalog").verify(forged)


def test_a_clock_20_seconds_ahead_goes_unnoticed(signer: TokenSigner, jwks: Path) -> None:
    now = int(time.time())
    token = signer.mint(ALICE, "catalog", iat=now + 20, exp=now + 80)
    assert TokenVerifier(jwks, "catalog").verify(token) == ALICE


def test_a_clock_5_minutes_off_is_refused_and_the_skew_is_named(signer: TokenSigner, jwks: Path) -> None:
    now = int(time.time())
    for skew in (-300, 300):
        token = signer.mint(ALICE, "catalog", iat=now + skew, exp=now + skew + 60)
        with pytest.raises(ClockSkew, match=r"compare the clocks") as refusal:
            TokenVerifier(jwks, "catalog").verify(token)
        assert abs(refusal.value.seconds - skew) < 30
        assert ("issued in" if skew > 0 else "s ago") in str(refusal.value)


def test_a_key_added_to_the_jwks_is_found_without_a_restart(signer: TokenSigner, jwks: Path) -> None:
    verifier = TokenVerifier(jwks, "catalog")
    new = TokenSigner(Ed25519PrivateKey.generate())
    replacement = jwks.with_suffix(".new")
    replacement.write_bytes(orjson.dumps({"keys": [signer.jwk, new.jwk]}))
    replacement.replace(jwks)
    assert verifier.verify(new.mint(ALICE, "catalog")) == ALICE
    assert verifier.verify(signer.mint(ALICE, "catalog")) == ALICE


def test_a_key_taken_out_of_the_jwks_ends_what_is_remembered_of_it(
    signer: TokenSigner, jwks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier, token = TokenVerifier(jwks, "catalog"), signer.mint(ALICE, "catalog")
    assert verifier.verify(token) == ALICE
    jwks.with_suffix(".new").write_bytes(orjson.dumps({"keys": []}))
    jwks.with_suffix(".new").replace(jwks)
    now = time.time()
    monkeypatch.setattr("lakegate_chassis.tokens.time.time", lambda: now + CHECK_SECONDS + 1)
    with pytest.raises(InvalidToken, match="not in the JWKS"):
        verifier.verify(token)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"keys": [{"kid": "a", "x": "b"}]}', None])
def test_a_broken_jwks_leaves_the_keys_as_they_are(signer: TokenSigner, jwks: Path, content: bytes | None) -> None:
    verifier = TokenVerifier(jwks, "catalog")
    jwks.unlink()
    if content is not None:
        jwks.write_bytes(content)
    with pytest.raises(InvalidToken, match="not in the JWKS"):
        verifier.verify(TokenSigner(Ed25519PrivateKey.generate()).mint(ALICE, "catalog"))
    assert verifier.verify(signer.mint(ALICE, "catalog")) == ALICE


def test_remembered_tokens_are_bounded(signer: TokenSigner, jwks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakegate_chassis.tokens.CACHE_ENTRIES", 3)
    assert CACHE_ENTRIES > 3
    verifier = TokenVerifier(jwks, "catalog")
    for _ in range(5):
        verifier.verify(signer.mint(ALICE, "catalog"))
    assert len(verifier._verified) == 3
