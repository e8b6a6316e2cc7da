"""Who the caller is, from files that somebody else keeps fresh."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from playground import AUDIENCE, SUMMARIZER, Playground, Svid

import leasehold
from leasehold import _tls


@pytest.fixture
def svid(playground: Playground) -> Svid:
    return playground.authority.svid(SUMMARIZER)


def client(playground: Playground, identity: leasehold.Identity) -> leasehold.Client:
    return leasehold.Client(playground.address, ca=playground.ca, identity=identity)


def test_a_rotated_svid_is_picked_up_and_the_credential_follows_it(
    playground: Playground, svid: Svid, task: leasehold.Task, tmp_path: Path
) -> None:
    identity = svid.write(tmp_path)
    with client(playground, identity) as agent, agent.credential(task.id, AUDIENCE) as credential:
        before = credential.current().key_pair
        playground.authority.svid(SUMMARIZER).write(tmp_path)
        assert credential.current().key_pair is before, "token and certificate belong together"
        first = credential.current()
        after = credential.refresh()
        assert after.lease_id == first.lease_id
        assert before is not None
        assert after.key_pair is not None
        assert after.key_pair.thumbprint != before.thumbprint
        with playground.client("documents") as documents:
            claims = documents.introspect(after.token).claims
        assert claims["cnf"] == {"x5t#S256": after.key_pair.thumbprint}


def test_an_svid_that_is_half_written_does_not_count(
    playground: Playground, svid: Svid, task: leasehold.Task, tmp_path: Path
) -> None:
    identity = svid.write(tmp_path)
    before = identity.key_pair()
    fresh = playground.authority.svid(SUMMARIZER)
    with client(playground, identity) as agent:
        for half in (b"", fresh.key[:40], fresh.key):
            (tmp_path / "svid.key").write_bytes(half)
            assert identity.key_pair() is before
            agent.get(task.id)
        (tmp_path / "svid.key").unlink()
        assert identity.key_pair() is before
        fresh.write(tmp_path)
        assert identity.key_pair() is not before
        agent.get(task.id)


def test_calls_that_run_over_an_earlier_svid_are_not_cut_off(
    playground: Playground, svid: Svid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[None] = []
    identity = svid.write(tmp_path)
    with client(playground, identity) as agent:
        transport = agent._transport
        with transport._connected() as before:
            playground.authority.svid(SUMMARIZER).write(tmp_path)
            with transport._connected() as after:
                assert after is not before
                assert before.retired
                close = before.channel.close
                monkeypatch.setattr(before.channel, "close", lambda: closed.append(close()))
            assert closed == []
        assert closed == [None]


def test_a_rotated_token_is_picked_up(
    playground: Playground, orchestrator: leasehold.Client, tmp_path: Path
) -> None:
    begun = orchestrator.begin(
        agent="oidc:dev:reporter", grant={AUDIENCE: ["read"]}, tier="standard", duration=60
    )
    file = tmp_path / "token"
    file.write_text(playground.oidc_token("alice"))
    with client(playground, leasehold.TokenIdentity(file)) as caller:
        with pytest.raises(leasehold.NotFoundError):
            caller.get(begun.id)
        file.write_text(playground.oidc_token("reporter"))
        assert caller.get(begun.id).id == begun.id


def test_files_that_say_nothing_are_named_and_not_quoted(
    playground: Playground, svid: Svid, tmp_path: Path
) -> None:
    other = playground.authority.svid(SUMMARIZER)
    svid.write(tmp_path)
    (tmp_path / "other.key").write_bytes(other.key)
    (tmp_path / "noise").write_bytes(b"\xffnot a secret, but it could be one")
    certificate, key, noise = tmp_path / "svid.pem", tmp_path / "other.key", tmp_path / "noise"
    cases: list[tuple[leasehold.Identity, str]] = [
        (leasehold.X509Identity(certificate, tmp_path / "absent"), "absent"),
        (leasehold.X509Identity(certificate, key), "the key is not the certificate's"),
        (leasehold.X509Identity(certificate, noise), "no PEM"),
        (leasehold.TokenIdentity(noise), "no token"),
        (leasehold.TokenIdentity(tmp_path / "absent"), "absent"),
    ]
    for identity, why in cases:
        with client(playground, identity) as caller, pytest.raises(leasehold.IdentityError) as told:
            caller.get("tsk_00")
        assert told.value.reason == "IDENTITY_UNREADABLE"
        assert why in told.value.message
        assert "could be" not in f"{told.value} {told.value.__cause__} {told.value.__context__}"


def test_the_environment_says_what_is_left_out(
    playground: Playground, task: leasehold.Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BROKER", "CA", "CERT", "KEY", "TOKEN_FILE"):
        monkeypatch.delenv(f"LEASEHOLD_{name}", raising=False)
    with pytest.raises(leasehold.RequestError, match="who are you"):
        leasehold.Client()
    folder = playground.folder
    monkeypatch.setenv("LEASEHOLD_BROKER", playground.address)
    monkeypatch.setenv("LEASEHOLD_CA", str(playground.ca))
    monkeypatch.setenv("LEASEHOLD_CERT", str(folder / "summarizer.pem"))
    monkeypatch.setenv("LEASEHOLD_KEY", str(folder / "summarizer.key"))
    with leasehold.Client() as agent:
        assert agent.get(task.id).id == task.id
    monkeypatch.setenv("LEASEHOLD_TOKEN_FILE", str(folder / "token"))
    with pytest.raises(leasehold.RequestError, match="not both"):
        leasehold.Client()


@pytest.mark.parametrize("load", [_tls._from_memory, _tls._from_sealed_file])
def test_a_key_is_in_no_file_that_stays(
    load: object, svid: Svid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pair = leasehold.KeyPair.parse(svid.certificate, svid.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load(context, pair)  # type: ignore[operator]
    assert list(tmp_path.iterdir()) == []
