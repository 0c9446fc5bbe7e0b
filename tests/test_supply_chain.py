"""The audit of dependencies never takes silence for a clean result; licences are looked at."""

import importlib
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture
def tool(monkeypatch):
    """Return a function that imports a tool by name."""
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module
    for name in ("audit_dependencies", "list_licences", "runtime_dependencies"):
        sys.modules.pop(name, None)


@pytest.fixture
def advisory_service():
    """Return a function that starts a service in the manner of OSV and gives its address."""
    servers = []

    def start(vulnerable=()):
        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                package = asked["package"]
                known = [
                    {"id": "OSV-1", "summary": "a hole", "affected": [{"package": package}]}
                    for _ in range(package["name"] in vulnerable)
                ]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps({"vulns": known} if known else {}).encode())

            def log_message(self, *arguments):
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1/query"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def audit(tool, tmp_path, monkeypatch):
    """Return a function that audits two packages and gives the exit status."""
    module = tool("audit_dependencies")
    dependencies = tool("runtime_dependencies").Dependencies(
        {"jinja2": "3.1.6", "numpy": "2.0"}, []
    )
    monkeypatch.setattr(module, "runtime_dependencies", lambda: dependencies)

    def run(*arguments):
        return module.main([*arguments, "--folder", str(tmp_path)])

    run.module, run.report = module, tmp_path / "audit.json"
    return run


def test_an_audit_without_advisories_is_clean(audit, advisory_service, capsys):
    assert audit("--osv-url", advisory_service(), "--require") == 0
    assert capsys.readouterr().out == "2 packages audited, 0 advisories\n"
    assert json.loads(audit.report.read_text())["not_audited"] == []


def test_an_advisory_fails_until_it_is_accepted(audit, advisory_service, capsys, monkeypatch):
    address = advisory_service(vulnerable={"numpy"})
    assert audit("--osv-url", address) == 1
    assert "numpy==2.0: OSV-1" in capsys.readouterr().out
    monkeypatch.setattr(audit.module, "accepted_advisories", lambda: {"OSV-1": "not called here"})
    assert audit("--osv-url", address) == 0
    assert "accepted: not called here" in capsys.readouterr().out


def test_a_service_that_is_not_there_is_no_clean_result(audit, advisory_service, capsys):
    audit("--osv-url", advisory_service())
    # A port that nothing listens on
    closed = "http://127.0.0.1:9/v1/query"
    capsys.readouterr()
    assert audit("--osv-url", closed) == 0
    told = capsys.readouterr().out
    assert "Connection" in told
    assert "NOT AUDITED: 2 of 2" in told
    assert "2 of the 2 in these versions" in told
    assert audit("--osv-url", closed, "--require") == 2


def test_an_index_without_advisories_is_no_clean_result(audit, capsys, monkeypatch):
    skipped = [{"name": name, "skip_reason": "not found"} for name in ("jinja2", "numpy")]
    monkeypatch.setattr(audit.module, "ask", lambda *arguments: (skipped, None))
    assert audit("--require") == 2
    assert "never audited" in capsys.readouterr().out
    assert not audit.report.exists()


def test_what_a_service_does_not_know_is_named(audit, capsys, monkeypatch):
    found = [
        {"name": "jinja2", "version": "3.1.6", "vulns": []},
        {"name": "numpy", "skip_reason": "not found"},
    ]
    monkeypatch.setattr(audit.module, "ask", lambda *arguments: (found, None))
    assert audit() == 0
    told = capsys.readouterr().out
    assert "NOT AUDITED: 1 of 2" in told
    assert "does not know: numpy" in told
    assert audit("--require") == 2


def test_runtime_dependencies_are_those_of_users(tool):
    installed, missing = tool("runtime_dependencies").runtime_dependencies()
    assert {"numpy", "scikit-learn", "threadpoolctl", "torch", "transformers"} <= set(installed)
    assert not {"pytest", "hypothesis", "sklearn-medfuse"} & set(installed)
    assert "+" not in installed["torch"]
    assert not set(missing) & set(installed)


@pytest.mark.parametrize(
    ("told", "allowed"),
    [
        ("MIT", True),
        ("MIT License", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT License; GPL-3.0-only", False),
        ("(MIT AND Zlib) OR GPL-3.0-only", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("UNKNOWN", False),
        ("", False),
        ("Free for all good people", False),
    ],
)
def test_each_licence_joined_by_and_must_be_allowed(tool, told, allowed):
    module = tool("list_licences")
    settings = {"names": {"MIT License": "MIT"}, "packages": {}}
    names = {"MIT", "Zlib", "Apache-2.0 WITH LLVM-exception"}
    assert module.is_allowed(module.expression("a", told, settings), names) == allowed


@pytest.fixture
def list_licences(tool, tmp_path, monkeypatch):
    """Return a function that lists packages of given licences, and gives status and report."""
    module = tool("list_licences")

    def run(told):
        versions = dict.fromkeys(told, "1.0")
        dependencies = tool("runtime_dependencies").Dependencies(versions, ["absent"])
        monkeypatch.setattr(module, "runtime_dependencies", lambda: dependencies)
        monkeypatch.setattr(module, "licences", lambda names: sorted(told.items()))
        status = module.main(["--folder", str(tmp_path)])
        return status, (tmp_path / "licences.md").read_text()

    return run


def test_allowed_licences_are_listed(list_licences):
    status, report = list_licences({"one": "BSD License", "two": "MPL-2.0 AND MIT"})
    assert status == 0
    assert "| one | 1.0 | BSD-3-Clause |" in report
    assert "| two | 1.0 | MPL-2.0 AND MIT |" in report
    assert "absent" in report


@pytest.mark.parametrize("told", ["UNKNOWN", "GPL-3.0-only", "Other/Proprietary License"])
def test_a_licence_that_is_not_allowed_fails(list_licences, told, capsys):
    assert list_licences({"one": "MIT", "two": told})[0] == 1
    assert f"two: {told}" in capsys.readouterr().out


def test_licences_are_read_from_what_is_installed(tool):
    found = dict(tool("list_licences").licences(["joblib", "not-installed"]))
    assert "BSD" in found["joblib"]
    assert found["not-installed"] == "UNKNOWN"
