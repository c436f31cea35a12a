"""The checks of a release, in order. Each gives a sentence, or raises Failed or Skipped with one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from harness.paths import DIGIT
from harness.servers import SERVER_COMMAND, running
from release import bill, documents, licences

# Tests of what users rely on, with real servers: the API, its documents, and clients of other people.
CONTRACT_TESTS: Final = (
    "tests/documents/test_blocks.py",
    *(f"tests/e2e/test_{name}.py" for name in ("server", "openai", "triton_client", "generated_client")),
)

# In an environment of their own: nothing of them is in a wheel or in a test.
TOOLS: Final = ("cyclonedx-bom==7.5.0", "pip-audit==2.10.1")


# A program for the environment of the tools: whether a bill fits CycloneDX's schema.
VALIDATE: Final = """
import pathlib, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(pathlib.Path(sys.argv[1]).read_text())
sys.exit(fault and str(fault))
"""


class Failed(Exception):
    """The commit cannot be released. The text says why."""


class Skipped(Exception):
    """It was not checked. The text says why."""


@dataclass(frozen=True)
class Release:
    """A commit that is to be released: its checkout, its files in `source`, and `dist` for what goes out."""

    root: Path
    source: Path
    work: Path
    dist: Path
    commit: str

    @property
    def version(self) -> str:
        """The version that is released."""
        return documents.version(self.source)

    @property
    def python(self) -> Path:
        """The interpreter of the environment in which the wheels are installed, and nothing but what they need."""
        return self.work / "installed" / "bin" / "python"

    @property
    def empty(self) -> Path:
        """A folder with nothing but the models, in which the installed service is started."""
        return self.work / "empty"

    @property
    def server(self) -> dict[str, str]:
        """The variable by which harness.servers starts the installed service, and there."""
        return {SERVER_COMMAND: f"env --chdir={self.empty} {self.python} -m"}

    @property
    def site_packages(self) -> Path:
        """Where that environment has its packages."""
        (found,) = self.work.glob("installed/lib/python*/site-packages")
        return found

    @property
    def installed(self) -> list[licences.Package]:
        """What is installed there, without the project's own two."""
        packages = map(licences.read, distributions(path=[str(self.site_packages)]))
        return sorted(package for package in packages if package.name not in ("vae-service", "vae-client"))


@contextmanager
def release(root: Path) -> Iterator[Release]:
    """The commit that is checked out. Its files alone are released, so they are laid out in a temporary folder."""
    commit = run("git", "rev-parse", "HEAD", cwd=root).strip()
    with tempfile.TemporaryDirectory() as folder:
        source, work, dist = Path(folder, "source"), Path(folder, "work"), root / "dist"
        for each in (source, work, dist):
            each.mkdir(exist_ok=True)
        archive = Path(folder, "source.tar")
        run("git", "archive", "--output", archive, commit, cwd=root)
        run("tar", "--extract", "--file", archive, "--directory", source)
        yield Release(root, source, work, dist, commit)


def run(*command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a command; what it printed. Raises Failed with the end of that when it does not succeed."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("VAE_", "PYTHON"))}
    ended = subprocess.run(
        command, cwd=cwd, env=others | dict(environment or {}), capture_output=True, text=True, check=False
    )
    if ended.returncode != 0:
        said = (ended.stdout + ended.stderr).strip().splitlines()
        raise Failed(f"{' '.join(map(str, command[:4]))} ended with {ended.returncode}:\n" + "\n".join(said[-20:]))
    return ended.stdout


def tree_is_clean(release: Release) -> str:
    """Nothing is changed, and no file is new: what is checked is what is committed."""
    changed = run("git", "status", "--porcelain", cwd=release.root).splitlines()
    if changed:
        raise Failed(
            f"{len(changed)} files are not as they were committed: {', '.join(line[3:] for line in changed[:5])}"
        )
    return f"commit {release.commit[:12]}"


def version_is_the_same_everywhere(release: Release) -> str:
    """pyproject.toml has the version, and what must repeat it does so rightly."""
    repeated = list(documents.repeated_versions(release.source))
    wrong = [f"{place} says {said}" for place, said in repeated if said != release.version]
    if wrong:
        raise Failed(f"pyproject.toml says {release.version}, but {', '.join(wrong)}")
    return f"{release.version}, in pyproject.toml and {len(repeated)} other places"


def changelog_has_the_version(release: Release) -> str:
    """The changelog has a section of the version, with a date."""
    section = documents.section((release.source / "CHANGELOG.md").read_text(), release.version)
    if section is None or not section.text:
        raise Failed(f"CHANGELOG.md has no section ## {release.version} - DATE")
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", section.date):
        raise Failed(
            f"CHANGELOG.md says of {release.version} that it is {section.date}: give it the date of the release"
        )
    return f"{section.date}, {len(section.text.splitlines())} lines"


def wheels_are_built(release: Release) -> str:
    """The wheels of the service and of the client, from the commit alone, dated by it."""
    for old in release.dist.glob("*.whl"):
        old.unlink()
    epoch = {
        "SOURCE_DATE_EPOCH": run("git", "show", "--no-patch", "--format=%ct", release.commit, cwd=release.root).strip()
    }
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    for project in (release.source, release.source / "client"):
        run(*pip, "--wheel-dir", release.dist, project, environment=epoch)
    wheels = sorted(release.dist.glob("*.whl"))
    if [wheel.name.split("-")[:2] for wheel in wheels] != [
        [name, release.version] for name in ("vae_client", "vae_service")
    ]:
        raise Failed(f"the wheels are {[wheel.name for wheel in wheels]}")
    return ", ".join(f"{wheel.name} ({wheel.stat().st_size // 1024} KiB)" for wheel in wheels)


def wheels_can_be_installed(release: Release) -> str:
    """Into an environment with nothing else, with the versions of constraints.txt."""
    run(sys.executable, "-m", "venv", "--without-pip", release.work / "installed")
    pip = (sys.executable, "-m", "pip", "--python", release.python)
    wheels = sorted(release.dist.glob("*.whl"))
    run(*pip, "install", "--quiet", "--constraint", release.source / "constraints.txt", *wheels)
    run(*pip, "check")
    return f"{len(release.installed)} packages beside them"


def contract_tests_pass(release: Release) -> str:
    """Against servers of the installed wheel, started in a folder with nothing but the models."""
    release.empty.mkdir()
    (release.empty / "models").symlink_to(release.source / "models")
    imported = run(release.python, "-c", "import service; print(service.__file__)", cwd=release.empty).strip()
    if not Path(imported).is_relative_to(release.site_packages):
        raise Failed(f"the service is imported from {imported}")
    pytest = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--numprocesses",
        "2",
        "--dist",
        "loadfile",
    )
    said = run(*pytest, *CONTRACT_TESTS, cwd=release.source, environment=release.server)
    return re.sub(r" in .*", "", said.strip().splitlines()[-1])


def client_works(release: Release) -> str:
    """The client's command, from its wheel, gets the latents of a digit from a server of the installed wheel."""
    os.environ.update(release.server)
    with running(release.work / "log") as server:
        command = (release.python.with_name("vae"), "encode", DIGIT, "--url", server.url)
        answer = json.loads(run(*command, cwd=release.empty))
    return f"vae encode: {len(answer['mu'])} latents"


def licences_are_known(release: Release) -> str:
    """Of all that is installed with the wheels, and of all in constraints.txt that is installed here for the rest."""
    needed = release.installed
    pinned = re.findall(r"^([\w.-]+)==", (release.source / "constraints.txt").read_text(), re.MULTILINE)
    names = {canonicalize_name(name) for name in pinned} - {package.name for package in needed}
    here = {package.name: package for package in map(licences.read, distributions())}
    rest = [here[name] for name in names & here.keys()]
    absent = sorted(names - here.keys())
    (release.dist / "licences.md").write_text(
        f"# Licences of what vae-service {release.version} depends on\n\n"
        f"## To run the service and the client\n\n{licences.table(needed)}\n"
        f"Swagger UI is in the wheel: Apache-2.0.\n\n"
        f"## To train, test and measure\n\n{licences.table(rest)}\n"
        f"Not installed where this was written, and not looked at: {', '.join(absent) or 'none'}.\n"
    )
    wrong = [f"{package.name} ({package.licence})" for package in (*needed, *rest) if not package.allowed]
    if wrong:
        raise Failed(f"not known or not allowed: {', '.join(sorted(wrong))}")
    return f"{len(needed)} packages to run, {len(rest)} to train and test, {len(absent)} not here: dist/licences.md"


def tools(release: Release) -> Path:
    """The folder of the programs of TOOLS, installed at the first call."""
    folder = release.work / "tools"
    if not folder.exists():
        run(sys.executable, "-m", "venv", "--without-pip", folder)
        run(sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "--quiet", *TOOLS)
    return folder / "bin"


def bill_is_written(release: Release) -> str:
    """The software bill of materials of the installed wheels."""
    file = release.dist / "sbom.cdx.json"
    options = (
        "--pyproject",
        release.source / "pyproject.toml",
        "--sv",
        "1.6",
        "--short-PURLs",
        "--output-reproducible",
    )
    run(tools(release) / "cyclonedx-py", "environment", *options, "--output-file", file, release.python)
    component = bill.vendored((release.source / "service" / "api" / "swagger_ui" / "VERSION.md").read_text())
    written = bill.completed(json.loads(file.read_text()), release.installed, component)
    file.write_text(json.dumps(written, indent=2) + "\n")
    run(tools(release) / "python", "-c", VALIDATE, file)
    wrong = list(bill.problems(written, release.installed))
    if wrong:
        raise Failed(" ".join(wrong))
    return f"CycloneDX {written['specVersion']}, {len(written['components'])} components: dist/sbom.cdx.json"


def vulnerabilities_are_none(release: Release) -> str:
    """No package that is installed with the wheels is known to be vulnerable, as far as an index can be asked."""
    file = release.work / "audit.json"
    command = (tools(release) / "pip-audit", "--path", release.site_packages, "--format", "json", "--output", file)
    try:
        run(*command, "--progress-spinner", "off", "--skip-editable")
        failure = ""
    except Failed as error:
        failure = str(error).splitlines()[-1]
    if not file.exists() or not file.read_text():
        raise Skipped(f"no index of vulnerabilities can be reached: {failure}")
    found = json.loads(file.read_text())["dependencies"]
    names = {package.name for package in release.installed}
    asked = [each for each in found if canonicalize_name(each["name"]) in names]
    if bad := [f"{each['name']}: {fault['id']}" for each in asked for fault in each.get("vulns", ())]:
        raise Failed(", ".join(bad))
    unknown = [each["name"] for each in asked if "skip_reason" in each]
    if unknown:
        raise Skipped(f"the index that could be reached does not know {len(unknown)} of {len(asked)} packages")
    return f"{len(asked)} packages, none known to be vulnerable"


def image_is_built(release: Release) -> str:
    """The image, by the compose file, with the version as its tag."""
    try:
        run("docker", "version")
    except (Failed, FileNotFoundError) as error:
        raise Skipped("no container engine answers `docker version`") from error
    labels = {"VERSION": release.version, "REVISION": release.commit}
    run("docker", "compose", "build", "vae", cwd=release.source, environment=labels)
    tag = f"vae-service:{release.version}"
    run("docker", "tag", "vae-service", tag)
    size = int(run("docker", "image", "inspect", "--format", "{{.Size}}", tag))
    return f"{tag}, {size // 10**6} MB"


CHECKS: Final[dict[str, Callable[[Release], str]]] = {
    "the tree is clean": tree_is_clean,
    "the version is the same everywhere": version_is_the_same_everywhere,
    "the changelog has the version": changelog_has_the_version,
    "the wheels are built": wheels_are_built,
    "the wheels can be installed": wheels_can_be_installed,
    "the contract tests pass": contract_tests_pass,
    "the client works": client_works,
    "the licences are known": licences_are_known,
    "the bill of materials is written": bill_is_written,
    "no vulnerability is known": vulnerabilities_are_none,
    "the image is built": image_is_built,
}
