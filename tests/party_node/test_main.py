"""The command: what it refuses, in one line and with which exit code."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InputError, LinkError, ModelError, TrineError
from engine.host.memory import Halves
from engine.link import make_identity
from party_node.main import address, listening
from party_node.start import Options, limits_of, make_server
from tests.models.shared_small import SharedSmall


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("own", "other", "client"):
        make_identity(name).save(directory / name)
    return directory


@pytest.fixture
def options(small: SharedSmall, certificates: Path) -> Options:
    own, other, client = (certificates / name for name in ("own", "other", "client"))
    certificate = "certificate.pem"
    peer = ("127.0.0.1", 1)
    return Options(
        small.directory / "node1", 1, peer, own, other / certificate, (client / certificate,), 4, state=certificates / "state"
    )


@pytest.mark.parametrize(
    ("kind", "says", "changes"),
    [
        (ModelError, "there is no node pack here", {"model": Path("/nowhere")}),
        (ModelError, "this is the pack of node 1, not of node 2", {"role": 2}),
        (LinkError, "the identity cannot be read", {"identity": Path("/nowhere")}),
        (LinkError, "the certificate cannot be read", {"peer_cert": Path("/nowhere")}),
        (LinkError, "the certificate cannot be read", {"client_certs": (Path("/nowhere"),)}),
    ],
)
def test_what_cannot_be_used(options: Options, kind: type[TrineError], says: str, changes: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(kind, match=says):
        make_server(replace(options, **changes), listener)


@pytest.mark.parametrize(("sessions", "said", "each"), [(1, None, 1), (2, None, 1), (3, None, 2), (9, None, 2), (4, 4, 4)])
def test_one_client_cannot_hold_all_places_unless_it_may(options: Options, sessions: int, said: int | None, each: int) -> None:
    limits = limits_of(replace(options, sessions=sessions, client_sessions=said))
    assert (limits.sessions, limits.client_sessions) == (sessions, each)


def test_two_parties_with_one_certificate_are_refused(options: Options) -> None:
    same = replace(options, client_certs=(*options.client_certs, options.peer_cert))
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LinkError, match="need a certificate each"):
        make_server(same, listener)


@pytest.mark.parametrize("text", ["nowhere", "host:99999", ":7440", "host:", "host:-1", "host:7x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InputError, match="is no address"):
        address(text)


def test_addresses() -> None:
    assert address("127.0.0.1:7440") == ("127.0.0.1", 7440)
    assert address("[::1]:7440") == ("::1", 7440)


def test_where_nobody_can_listen() -> None:
    with pytest.raises(InputError, match="give --listen"):
        listening(None, None)
    with pytest.raises(InputError, match="both given: leave out one"):
        listening("127.0.0.1:0", 3)
    with pytest.raises(LinkError, match="cannot listen"):
        listening("192.0.2.1:1", None)
    with pytest.raises(LinkError, match="descriptor 9999: cannot listen"):
        listening(None, 9999)


def run(options: Options, **changes: Any) -> subprocess.CompletedProcess[str]:
    wanted = replace(options, **changes)
    words = {
        "--model": wanted.model,
        "--role": wanted.role,
        "--peer": "127.0.0.1:1",
        "--identity": wanted.identity,
        "--peer-cert": wanted.peer_cert,
        "--client-cert": wanted.client_certs[0],
        "--listen": "127.0.0.1:0",
        "--weights": wanted.weights,
    }
    given = [str(word) for option in words.items() for word in option]
    program = [sys.executable, "-m", "party_node.main", *given, "--exit-with-stdin"]
    return subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("code", "changes"), [(2, {"model": Path("/nowhere")}), (2, {"role": 3}), (3, {"identity": Path("/nowhere")})]
)
def test_a_refusal_is_one_line_and_an_exit_code(options: Options, code: int, changes: dict[str, Any]) -> None:
    ended = run(options, **changes)
    assert ended.returncode == code
    assert ended.stderr
    assert "Traceback" not in ended.stderr
    assert set(ended.stdout.splitlines()) <= {"loading"}


@pytest.mark.parametrize("wanted", [Halves.STORED, Halves.DRAWN])
def test_the_log_says_how_the_halves_of_products_are_had(options: Options, wanted: Halves) -> None:
    ended = run(options, weights=wanted)
    entries = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [entry["weights"] for entry in entries if entry["event"] == "loaded"] == [wanted]
    assert ended.returncode == 0


def test_an_unknown_way_to_have_the_weights_is_refused(options: Options) -> None:
    ended = run(options, weights="lost")
    assert ended.returncode == 2
    assert "lost" in ended.stderr


def test_it_says_where_it_listens_and_ends_with_its_stdin(options: Options) -> None:
    ended = run(options)
    assert ended.returncode == 0
    *before, ready = ended.stdout.splitlines()
    assert ready.startswith("ready 127.0.0.1:")
    assert set(before) <= {"loading"}


def test_a_node_that_loads_says_so_and_ends_when_nobody_hears_it() -> None:
    program = "import party_node.main as m, time\nwith m.signs_of_life(True, 0.01): time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        assert node.stdout.readline() == b"loading\n"
        node.stdout.close()
        assert node.wait(20) == 0


def test_the_version_is_one_line() -> None:
    words = [sys.executable, "-m", "party_node.main", "--version"]
    assert subprocess.check_output(words, text=True) == f"trine-node {version('trine')}\n"


@pytest.mark.parametrize("option", ["identity", "peer_cert", "client_certs"])
def test_an_unusable_certificate_is_named(options: Options, tmp_path: Path, option: str) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    changed = replace(options, **{option: (wrong,) if option == "client_certs" else wrong})
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LinkError, match=f"^{wrong}: "):
        make_server(changed, listener)


def test_a_key_that_does_not_fit_is_named(options: Options, tmp_path: Path) -> None:
    one, other = make_identity("one"), make_identity("other")
    mixed = tmp_path / "mixed.pem"
    mixed.write_bytes(one.certificate + other.key)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(LinkError, match=f"^{mixed}: .*do not fit"):
        make_server(replace(options, identity=mixed), listener)
