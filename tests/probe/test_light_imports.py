"""What a running probe has in memory: nothing that its libraries load for purposes it does not have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest


def runs_well(script: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a fresh interpreter, which says on its error output what it should not have loaded."""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_collector_in_plain_text_needs_no_openssl() -> None:
    script = (
        "import sys, swarm_probe.cli as cli\n"
        "cli.light_imports.asyncio_without_tls()\n"
        "import swarm_probe.daemon, swarm_probe.measure.paths\n"
        "loaded = {'ssl', '_ssl', '_hashlib'} & set(sys.modules)\n"
        "import ssl\n"
        "sys.exit(f'imported: {sorted(loaded)}' if loaded or not ssl.SSLContext else 0)"
    )
    runs_well(script)


def test_a_running_probe_has_loaded_no_codec_compressor_or_parser_that_it_does_not_use() -> None:
    """Each is a tenth to half a megabyte: names in other scripts, decimal numbers, argparse and what it loads, parsers
    of Python, names of locales, and psutil where the system's files say the same."""
    script = (
        "import sys, swarm_probe.cli as cli\n"
        "cli._options(['--join', '127.0.0.1:9470'])\n"
        "cli._drop_parser()\n"
        "cli.light_imports.asyncio_without_tls()\n"
        "import swarm_probe.daemon, swarm_probe.measure.paths\n"
        "from swarm_probe.sockets import target\n"
        "from swarm_probe.collector_client.dial import dial\n"
        "import asyncio, socket\n"
        "listening = socket.create_server(('127.0.0.1', 0))\n"
        "url = f'ws://127.0.0.1:{listening.getsockname()[1]}'\n"
        "found = asyncio.run(dial(url, 10.0)), target('192.0.2.1', 9470), target('2001:db8::1', 9470)\n"
        "names = {'encodings.idna', 'unicodedata', 'decimal', 'argparse', 'locale', 'shutil', 'bz2', 'lzma'}\n"
        "names |= {'ast', 'dis', 'platform', 'msgspec.inspect'}\n"
        "names |= {'psutil'} if sys.platform == 'linux' else set()\n"
        "loaded = names & set(sys.modules)\n"
        "sys.exit(f'imported: {sorted(loaded)}' if loaded or None in found else 0)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    runs_well(script, environment)


def test_a_probe_that_runs_describes_no_code_and_loads_no_library_for_others(tmp_path: Path) -> None:
    """Signals are set and the daemon is made: asyncio has asked for all that it asks for without an error."""
    script = (
        "import sys, swarm_probe.cli as cli\n"
        "run = cli._run\n"
        "names = 'inspect traceback linecache tokenize ast dis array zlib textwrap _uuid _blake2 _sha3'.split()\n"
        "def looked_at(config):\n"
        "    from swarm_probe.daemon import Daemon\n"
        "    async def look(self):\n"
        "        loaded = set(names) & set(sys.modules) - set(cli.light_imports.standing_in())\n"
        "        assert not loaded, loaded\n"
        "    Daemon.run = look\n"
        "    return run(config)\n"
        "cli._run = looked_at\n"
        f"sys.argv[1:] = ['--join', '127.0.0.1:9470', '--state', {str(tmp_path)!r}]\n"
        "sys.exit(cli.main())\n"
    )
    runs_well(script)


def test_quic_is_loaded_without_what_verifies_certificates() -> None:
    """A connection needs nothing of it: the client checks no certificate, and both ends prove their key in the
    preamble."""
    script = (
        "import sys, swarm_probe.cli as cli\n"
        "cli.light_imports.asyncio_without_tls()\n"
        "cli.light_imports.aioquic_without_verification()\n"
        "from collections import Counter\n"
        "from aioquic.quic.connection import QuicConnection\n"
        "from swarm_probe.streams.quic_endpoint import QuicPort\n"
        "port = QuicPort(None, None, Counter())\n"
        "client = QuicConnection(configuration=port._client)\n"
        "client.connect(('::1', 1), now=0.0)\n"
        "server = QuicConnection(configuration=port._server,\n"
        "                        original_destination_connection_id=client.original_destination_connection_id)\n"
        "for sender, receiver in [(client, server), (server, client)] * 3:\n"
        "    for data, _ in sender.datagrams_to_send(now=0.0):\n"
        "        receiver.receive_datagram(data, ('::1', 1), now=0.0)\n"
        "assert client._handshake_complete and server._handshake_complete\n"
        "names = {'ssl', 'certifi', 'service_identity', 'OpenSSL', 'attr', 'idna', 'email', 'cryptography.x509.base'}\n"
        "names |= {'inspect', 'ast', 'json'}\n"
        "loaded = names & set(sys.modules) - set(cli.light_imports.standing_in())\n"
        "sys.exit(f'imported: {sorted(loaded)}' if loaded else 0)"
    )
    runs_well(script)


def test_certificates_are_whole_for_whoever_asks_after_quic() -> None:
    pytest.importorskip("aioquic")
    load = "import swarm_probe.cli as cli; cli.light_imports.aioquic_without_verification()\n"
    runs_well(load + "from cryptography.x509.oid import NameOID\nfrom cryptography import x509\nassert x509.Name")
    runs_well(load + "from cryptography import x509\nassert x509.Name([]) == x509.Name([])")
    runs_well(load + "import cryptography.x509\nassert cryptography.x509.CertificateBuilder()")
    runs_well(load + "from cryptography.hazmat.bindings.openssl.binding import Binding\nassert Binding().lib.SSL_new")


def test_libraries_are_whole_after_the_light_imports() -> None:
    """What they were not given is there for whoever asks next."""
    script = (
        "import swarm_probe.light_imports, importlib.metadata, typing_extensions, websockets, msgspec, decimal\n"
        "assert decimal.Decimal('0.1') + 1\n"
        "assert importlib.metadata.version('websockets') == websockets.__version__\n"
        "assert typing_extensions.Required\n"
        "import array, inspect, linecache, subprocess, traceback, uuid\n"
        "from asyncio.format_helpers import extract_stack\n"
        "assert traceback.extract_stack()[-1].name == '<module>' and array.array('i', [1])[0] == 1\n"
        "assert linecache.getline(inspect.getsourcefile(inspect), 1)\n"
        "assert inspect.iscoroutinefunction(extract_stack) is False\n"
        "import hashlib, _sha3\n"
        "assert hashlib.sha3_256(b'x').digest() == _sha3.sha3_256(b'x').digest()\n"
        "assert hashlib.blake2b(b'x', digest_size=4).digest_size == 4\n"
        "assert msgspec.json.schema(int) == {'type': 'integer'}\n"
        "assert str(inspect.signature(len)) == '(obj, /)'\n"  # by ast
        "assert 'ast' in inspect.getsource(inspect)\n"
        "assert msgspec.inspect.type_info(int) == msgspec.inspect.IntType()\n"
        "assert subprocess.run(['echo', 'é'], stdout=-1, text=True, check=True).stdout == 'é\\n'\n"  # by locale
        "assert uuid.uuid4() != uuid.uuid1()\n"
    )
    runs_well(script)


def test_a_module_that_is_asked_for_while_it_is_stood_for_is_loaded_once() -> None:
    script = (
        "import sys, swarm_probe.light_imports as light\n"
        "with light._in_place_of('colorsys', light._Later('colorsys', known=1)):\n"
        "    import colorsys as first\n"
        "    assert first.known == 1 and 'rgb_to_hsv' not in vars(sys.modules['colorsys'])\n"
        "    asked = first.rgb_to_hsv\n"
        "import colorsys\n"
        "assert asked is colorsys.rgb_to_hsv\n"
    )
    runs_well(script)
