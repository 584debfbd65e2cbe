"""Claims about what is shipped: wheel and sdist hold everything that the commands need.

Built and installed without network: the dependencies are those of this environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def done(*words: str, cwd: Path, **environment: str) -> str:
    found = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False
    )
    assert found.returncode == 0, f"{' '.join(words)}: {found.stderr or found.stdout}"
    return found.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out), cwd=ROOT)
    return out


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix with the wheel alone in it; what it depends on is found behind it."""
    prefix = tmp_path_factory.mktemp("prefix")
    (wheel,) = built.glob("*.whl")
    # Without --ignore-installed pip takes the checkout out of the environment that these tests run in.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    done(*pip, "--prefix", str(prefix), str(wheel), cwd=prefix)
    return prefix


def run(prefix: Path, program: str, *words: str) -> str:
    (site,) = prefix.glob("lib/python3*/site-packages")
    home = prefix / "home"
    home.mkdir(exist_ok=True)
    return done(
        str(prefix / "bin" / program), *words, cwd=home, PYTHONPATH=str(site), HOME=str(home), XDG_STATE_HOME=str(home)
    )


def test_every_program_starts_from_the_wheel(installed: Path) -> None:
    for program in ("swarmtop", "swarm-probe", "swarm-collector"):
        assert f"{program} " in run(installed, program, "--version")
    (site,) = installed.glob("lib/python3*/site-packages")
    where = done(sys.executable, "-c", "import swarmtop; print(swarmtop.__file__)", cwd=installed, PYTHONPATH=str(site))
    assert where.startswith(str(site))


def test_files_beside_the_code_came_along(installed: Path) -> None:
    """The page of the report, the lab's scenarios and cities, the catalogue: each is read where it is used."""
    (installed / "two.toml").write_text(
        '[[node]]\nname = "a"\nvram_gib = 24.0\nmem_gbps = 900.0\ntflops = 60.0\n\n'
        '[[node]]\nname = "b"\n\n[[link]]\nfrom = "*"\nto = "*"\nrtt_ms = 20.0\n'
    )
    swarm = ("--swarm", str(installed / "two.toml"), "--model", "llama-2-7b")
    assert "tok/s" in run(installed, "swarmtop", "--once", *swarm)
    assert "<!doctype html>" in run(installed, "swarmtop", "report", *swarm, "--html", "-")
    assert "two-continents" in run(installed, "swarmtop", "lab", "--list")


def test_man_pages_and_completions_are_where_shells_look(installed: Path) -> None:
    assert (installed / "share/man/man1/swarmtop.1").read_text().startswith(".TH")
    assert "_shtab_swarmtop" in (installed / "share/bash-completion/completions/swarmtop").read_text()
    assert (installed / "share/zsh/site-functions/_swarmtop").exists()


def test_the_sdist_builds_and_tests_anywhere(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"pyproject.toml", "Makefile", "constraints.txt", "LICENSE", "README.md", "examples/garage.toml"} <= names
    assert "tests/package/test_wheel.py" in names


def test_the_wheel_holds_no_tests_and_no_one_elses_files(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    ours = {
        "swarm_protocol",
        "swarm_storage",
        "swarm_probe",
        "swarm_collector",
        "swarm_predict",
        "swarmtop",
        "swarm_lab",
    }
    assert {top for top in tops if not top.startswith("swarmtop-")} == ours
    assert not [name for name in names if "test" in name.lower().split("/")[-1][:5]]
