"""Identities on disk, and contexts that take one exact certificate."""

from __future__ import annotations

import hashlib
import os
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from engine.errors import LinkError
from engine.link import Identity, client_tls, load_identity, make_identity, server_tls, unnamed_file
from engine.link.tls import fingerprint


def test_an_identity_is_written_for_its_owner_alone(tmp_path: Path, client_identity: Identity) -> None:
    client_identity.save(tmp_path / "own")
    files = sorted((tmp_path / "own").iterdir())
    assert [file.name for file in files] == ["certificate.pem", "key.pem"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "own").stat().st_mode & 0o777 == 0o700
    assert load_identity(tmp_path / "own") == client_identity


def test_an_identity_is_never_overwritten(tmp_path: Path, client_identity: Identity) -> None:
    client_identity.save(tmp_path)
    with pytest.raises(FileExistsError):
        client_identity.save(tmp_path)


def test_an_identity_takes_a_path_as_text(tmp_path: Path, client_identity: Identity) -> None:
    client_identity.save(str(tmp_path / "own"))
    assert load_identity(tmp_path / "own") == client_identity


@pytest.mark.parametrize("name", ["certificate.pem", "key.pem"])
def test_half_an_identity_is_taken_away_again(name: str, tmp_path: Path, client_identity: Identity) -> None:
    (tmp_path / name).write_text("another's")
    with pytest.raises(FileExistsError):
        client_identity.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_missing_identity_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="identity cannot be read: No such file"):
        load_identity(tmp_path)


def test_the_fingerprint_is_that_of_the_der_form(client_identity: Identity) -> None:
    der = ssl.PEM_cert_to_DER_cert(client_identity.certificate.decode())
    assert client_identity.fingerprint == hashlib.sha256(der).hexdigest()


def test_text_that_is_no_certificate_is_refused(client_identity: Identity) -> None:
    with pytest.raises(LinkError, match="cannot be read"):
        fingerprint(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(LinkError, match="cannot be read"):
        client_tls(client_identity, b"nothing")


def test_a_key_that_does_not_fit_is_refused(client_identity: Identity, stranger: Identity) -> None:
    mixed = Identity(client_identity.certificate, stranger.key, client_identity.fingerprint)
    with pytest.raises(LinkError, match="do not fit"):
        client_tls(mixed, stranger.certificate)


def test_no_key_is_shown(client_identity: Identity) -> None:
    assert "PRIVATE" not in repr(client_identity)


def test_the_contexts_are_strict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client_identity: Identity, stranger: Identity
) -> None:
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    client = client_tls(client_identity, stranger.certificate)
    server = server_tls(client_identity, [stranger.certificate, make_identity("third").certificate])
    for context in (client.context, server.context):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.keylog_filename is None
    assert client.context.check_hostname
    assert server.context.num_tickets == 0
    assert len(server.pinned) == server.context.cert_store_stats()["x509"] == 2


def test_an_identity_may_be_one_file(tmp_path: Path, client_identity: Identity) -> None:
    (tmp_path / "own.pem").write_bytes(client_identity.pem)
    assert load_identity(tmp_path / "own.pem") == client_identity


def test_what_is_no_identity_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    with pytest.raises(LinkError, match=f"^{wrong}: the identity cannot be used"):
        load_identity(wrong)


def test_an_unnamed_file_is_read_by_who_inherits_it(own_temporary_directory: Path) -> None:
    program = "import sys; sys.stdout.write(open(sys.argv[1]).read())"
    with unnamed_file(b"secret") as descriptor:
        words = [sys.executable, "-c", program, f"/dev/fd/{descriptor}"]
        assert subprocess.check_output(words, pass_fds=[descriptor]) == b"secret"
        assert not list(own_temporary_directory.iterdir())


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="such a system has nothing but files without names")
def test_no_key_touches_a_disk(monkeypatch: pytest.MonkeyPatch, client_identity: Identity, stranger: Identity) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert client_tls(client_identity, stranger.certificate).pinned == {stranger.fingerprint}


def test_without_files_in_memory_an_unlinked_one_does(
    monkeypatch: pytest.MonkeyPatch, client_identity: Identity, stranger: Identity
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert server_tls(client_identity, [stranger.certificate]).pinned == {stranger.fingerprint}
