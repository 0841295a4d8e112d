"""Builds the image for arm64 without a daemon, and runs it; docs/docker.md has more. Wants buildah, and root.

Rule 1: what is missing is said, all of it, and nothing is begun; status 77 then. Rule 2: images and containers lie under
--place, nowhere else. Rule 3: the system is changed by --register-binfmt alone, and changed back at the end.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from deploy.binfmt import PLACE, QEMU, registered, runs_arm64
from deploy.buildah import Buildah
from deploy.inside import try_image

ROOT = Path(__file__).resolve().parents[1]
UNAVAILABLE = 77
SUITE, PACKAGES = "bookworm", "python3,python3-venv,ca-certificates"
DEBIAN = f"localhost/edge-base:{SUITE}"


def main() -> int:
    asked = arguments()
    if lacking := missing(asked):
        print("\n".join(f"build-image: {each}" for each in lacking), file=sys.stderr)
        return UNAVAILABLE
    with ExitStack() as undo:
        if asked.register_binfmt and not runs_arm64():
            undo.enter_context(registered())
        buildah = Buildah(asked.place)
        base = debian(buildah, asked.place) if asked.base == "debootstrap" else asked.base
        build(buildah, asked, base)
        of_base, of_image = buildah.megabytes(base), buildah.megabytes(asked.tag)
        print(f"{asked.tag}: {of_image:.0f} MB, {of_image - of_base:.0f} MB over its base of {of_base:.0f} MB")
        if asked.archive:
            buildah("push", asked.tag, f"docker-archive:{asked.archive.resolve()}:{asked.tag}", stdout=sys.stderr)
        if asked.run:
            with buildah.mounted(asked.tag) as root:
                try_image(root, buildah.config(asked.tag), ROOT / "edge" / "data" / "digits")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("build-image", description=__doc__.partition(";")[0])
    new = parser.add_argument
    new(
        "--base",
        default="docker.io/library/python:3.11-slim-bookworm",
        help="an image, or `debootstrap`: Debian, made here",
    )
    new("--runtime", choices=("litert", "tflite"), default="litert")
    new("--coral", action="store_true", help="with the packages in deploy/coral")
    new("--tag", default="localhost/edge:arm64")
    new("--place", type=Path, default=ROOT / ".tools" / "image", help="where images are kept")
    new("--archive", type=Path, help="write the image into this file as well, for `docker load`")
    new("--pip-conf", type=Path, help="pip's configuration while building: an index of your own")
    new("--ca", type=Path, help="certificates, PEM, that pip trusts while building")
    new("--register-binfmt", action="store_true", help="have the kernel run arm64 programs by qemu until this ends")
    new("--run", action="store_true", help="try the image, with a root that cannot be written to")
    return parser.parse_args()


def missing(asked: argparse.Namespace) -> list[str]:
    programs = ["buildah"]
    programs += ["debootstrap"] if asked.base == "debootstrap" else []
    programs += ["unshare"] if asked.run else []
    programs += [QEMU] if asked.register_binfmt and not runs_arm64() else []
    lacking = [f"there is no {each}" for each in programs if shutil.which(each) is None]
    if os.geteuid() != 0:
        lacking.append("only root may: containers and their mounts are made")
    if not runs_arm64() and not asked.register_binfmt:
        known = "--register-binfmt, or the packages qemu-user-static and binfmt-support, change that"
        lacking.append(f"the kernel runs no arm64 programs (none is in {PLACE}): {known}")
    return lacking


def debian(buildah: Buildah, place: Path) -> str:
    """An image with Debian's Python, made once. Raises CalledProcessError."""
    if buildah.has(DEBIAN):
        return DEBIAN
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place) as root:
        command = ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={PACKAGES}", SUITE, root]
        subprocess.run(command, check=True, stdout=sys.stderr)
        for each in (*Path(root, "var/cache/apt").rglob("*"), *Path(root, "var/lib/apt/lists").rglob("*")):
            if each.is_file():
                each.unlink()
        container = buildah.said("from", "--arch", "arm64", "scratch")
        buildah("copy", "--quiet", container, root, "/", stdout=subprocess.DEVNULL)
        buildah("commit", "--quiet", "--rm", container, DEBIAN, stdout=subprocess.DEVNULL)
    print(f"{DEBIAN}: made in {time.monotonic() - began:.0f} s")
    return DEBIAN


def build(buildah: Buildah, asked: argparse.Namespace, base: str) -> None:
    """Raises CalledProcessError."""
    began = time.monotonic()
    files = (("pip", asked.pip_conf), ("ca", asked.ca))
    secrets = [f"--secret=id={name},src={file.resolve()}" for name, file in files if file]
    values = {"BASE": base, "RUNTIME": asked.runtime, "CORAL": int(asked.coral), "VERSION": version()}
    buildah(
        *("bud", "--isolation", "chroot", "--platform", "linux/arm64", "--pull-never" if base == DEBIAN else "--pull"),
        # Docker's own format: the other one has no place for a health check.
        *("--format", "docker", *secrets, *(f"--build-arg={name}={value}" for name, value in values.items())),
        *("--file", ROOT / "Dockerfile.arm64", "--ignorefile", ROOT / ".dockerignore", "--tag", asked.tag, ROOT),
        stdout=sys.stderr,
    )
    print(f"{asked.tag}: built in {time.monotonic() - began:.0f} s")


def version() -> str:
    lines = (ROOT / "edge" / "__init__.py").read_text().splitlines()
    return next(line for line in lines if line.startswith("__version__")).split('"')[1]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:
        sys.exit(f"build-image: {' '.join(map(str, error.cmd[:8]))} … left with {error.returncode}")
