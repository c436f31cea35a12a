from __future__ import annotations

from harness.paths import ROOT
from release import bill
from release.licences import Package

PACKAGES = [Package("numpy", "2.4.6", "BSD-3-Clause"), Package("zlib-ng", "1.1.0", "PSF-2.0")]

# As cyclonedx-py writes it, shortened: it knows no licence of the second.
WRITTEN = {
    "bomFormat": "CycloneDX",
    "metadata": {"component": {"bom-ref": "root-component", "name": "vae-service", "version": "0.1.0"}},
    "components": [
        {
            "bom-ref": "numpy==2.4.6",
            "name": "numpy",
            "version": "2.4.6",
            "purl": "pkg:pypi/numpy@2.4.6",
            "licenses": [{"license": {"name": "License :: OSI Approved :: BSD License"}}],
        },
        {"bom-ref": "zlib_ng==1.1.0", "name": "zlib_ng", "version": "1.1.0", "purl": "pkg:pypi/zlib-ng@1.1.0"},
        {
            "bom-ref": "vae-client==0.1.0",
            "name": "vae-client",
            "version": "0.1.0",
            "externalReferences": [{"type": "distribution", "url": "file:///home/me/dist/vae_client-0.1.0.whl"}],
        },
    ],
    "dependencies": [{"ref": "root-component", "dependsOn": ["numpy==2.4.6"]}, {"ref": "numpy==2.4.6"}],
}

SWAGGER = bill.vendored((ROOT / "service" / "api" / "swagger_ui" / "VERSION.md").read_text())


def test_a_completed_bill_lists_what_is_installed_with_its_licences() -> None:
    assert list(bill.problems(WRITTEN, PACKAGES)) == ["zlib-ng has no package URL or no licence."]
    completed = bill.completed(WRITTEN, PACKAGES, SWAGGER)
    assert list(bill.problems(completed, PACKAGES)) == []
    assert completed["components"][0]["licenses"] == [{"expression": "BSD-3-Clause"}]


def test_what_is_in_the_wheel_as_files_is_listed_too() -> None:
    completed = bill.completed(WRITTEN, PACKAGES, SWAGGER)
    assert completed["components"][-1]["purl"] == "pkg:npm/swagger-ui-dist@5.35.0"
    root = next(each for each in completed["dependencies"] if each["ref"] == "root-component")
    assert root["dependsOn"] == ["numpy==2.4.6", "swagger-ui-dist==5.35.0"]


def test_no_path_of_the_machine_is_left_in_it() -> None:
    assert "file://" in str(WRITTEN)
    assert "file://" not in str(bill.completed(WRITTEN, PACKAGES, SWAGGER))


def test_a_package_that_is_missing_or_of_another_version_is_named() -> None:
    others = [Package("numpy", "2.4.7", "BSD-3-Clause"), Package("orjson", "3.13.0", "MIT")]
    assert list(bill.problems(WRITTEN, others)) == ["numpy 2.4.7 is not in it.", "orjson 3.13.0 is not in it."]
