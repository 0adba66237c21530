#!/usr/bin/env python3
"""Writes the Debian copyright file of the program: what is linked into it, by whom, under which licence.

`cargo metadata` says which crates the program is built of on this platform (no build scripts, no tests). Of a crate that
offers several licences the first of PREFERRED is taken. The text is that of the crate's own licence file; equal texts are
written once. Same sources, same output.
"""

import json
import pathlib
import re
import subprocess
import sys

PREFERRED = ["MIT", "BSD-3-Clause", "BSD-2-Clause", "ISC", "Zlib", "Unlicense", "CC0-1.0", "Apache-2.0", "WTFPL"]
# Texts that every Debian system has.
COMMON = {"Apache-2.0": "Apache-2.0", "CC0-1.0": "CC0-1.0"}
# Which files of a crate hold which licence, most telling first.
NAMES = {
    "MIT": ["LICENSE-MIT*", "LICENSE.MIT*", "LICENSE_MIT*", "license-mit*", "LICENSE-*MIT*", "*MIT*"],
    "Apache-2.0": ["LICENSE-APACHE*", "*APACHE*"],
    "BSD-2-Clause": ["*BSD*"],
    "BSD-3-Clause": ["*BSD*"],
    "Zlib": ["LICENSE-ZLIB*", "*ZLIB*"],
}
ANY = ["LICENSE*", "LICENCE*", "COPYING*", "UNLICENSE*", "license*", "LICENSES/*"]
# C sources that crates bring along and compile in: crate, files, copyright, licence, text.
BUNDLED = [
    ("libsqlite3-sys", "SQLite", "sqlite3/sqlite3.c", "the authors of SQLite", "public-domain",
     "The authors of SQLite disclaim copyright to its source code."),
    ("zstd-sys", "Zstandard", "zstd/LICENSE", "Meta Platforms, Inc. and affiliates", "BSD-3-Clause", None),
]


def metadata():
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True)).group(1)
    command = ["cargo", "metadata", "--locked", "--format-version=1", "--filter-platform", host]
    return json.loads(subprocess.check_output(command, text=True))


def linked(data):
    """Packages that are linked into the program: the root's, by dependencies of kind `normal`."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    packages = {package["id"]: package for package in data["packages"]}
    is_macro = lambda package: any("proc-macro" in target["kind"] for target in package["targets"])
    found, pending = set(), [data["resolve"]["root"]]
    while pending:
        node = nodes[pending.pop()]
        for dependency in node["deps"]:
            is_normal = any(kind["kind"] is None for kind in dependency["dep_kinds"])
            package = packages[dependency["pkg"]]
            if is_normal and dependency["pkg"] not in found and not is_macro(package):
                found.add(dependency["pkg"])
                pending.append(dependency["pkg"])
    return sorted((packages[it] for it in found), key=lambda it: (it["name"], it["version"]))


def chosen(package):
    """The licences that hold: one of those that are joined by OR, all of those that are joined by AND."""
    expression = (package["license"] or "").replace("/", " OR ")
    parts = [part.strip(" ()") for part in re.split(r"\bAND\b", expression)]
    licences = []
    for part in parts:
        offered = [re.sub(r" WITH .*", "", it).strip(" ()") for it in re.split(r"\bOR\b", part)]
        taken = next((it for it in PREFERRED if it in offered), offered[0])
        if taken not in licences:
            licences.append(taken)
    if licences in ([], [""]):
        sys.exit(f"{package['name']}: says nothing of its licence")
    return licences


def text_of(folder, licence):
    others = [name for name in ("APACHE", "MIT", "ZLIB", "BSD") if name not in licence.upper()]
    for pattern in [f"*{licence}*"] + NAMES.get(licence, []) + ANY:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not any(other in path.name.upper() for other in others):
                return path.read_text(errors="replace")
    return None


def copyrights(text, package):
    lines = []
    for line in text.splitlines():
        line = line.strip(" *#/\t-")
        is_holder = re.match(r"(Copyright|\(c\)|©)\b.*", line, re.I) and re.search(r"\d{4}|©|\(c\)", line, re.I)
        if is_holder and "notice" not in line.lower() and "[yyyy]" not in line and "{yyyy}" not in line:
            lines.append(re.sub(r"^Copyright:?\s*", "", line, flags=re.I).strip())
    authors = [re.sub(r"\s*<.*", "", author) for author in package["authors"]]
    return list(dict.fromkeys(lines)) or authors or [f"the authors of {package['name']}"]


def body(text):
    """The licence itself, without who gives it."""
    lines = [line.rstrip() for line in text.replace("\t", "    ").replace("\f", "").splitlines()]
    lines = [line for line in lines if not re.match(r"\W*(Copyright\b.*(\d{4}|\(c\)|©).*|All rights reserved\.?)$", line, re.I)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def indented(text):
    return "\n".join(" " + (line.rstrip() or ".") for line in text.splitlines())


def main():
    out, texts = [], {}

    def name_for(licence, text):
        key = re.sub(r"^(the )?mit license( mit)? ", "", re.sub(r"\W+", " ", text).lower().strip())
        of_licence = texts.setdefault(licence, {})
        if key not in of_licence:
            number = len(of_licence)
            of_licence[key] = (licence if number == 0 else f"{licence}-{number + 1}", text)
        return of_licence[key][0]

    def stanza(files, holders, licences, comment=None):
        out.append(f"Files: {files}")
        out.append("Copyright: " + "\n           ".join(holders))
        out.append("License: " + " and ".join(licences))
        if comment:
            out.append(f"Comment: {comment}")
        out.append("")

    own = pathlib.Path("LICENSE").read_text()
    out += ["Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/", "Upstream-Name: slomod",
            "Comment: The program is linked from the crates below, each named with its version. FFmpeg is not in the",
            " package: it is the system's.", ""]
    stanza("*", copyrights(own, {"authors": [], "name": "slomod"}), [name_for("MIT", body(own))],
           "Kernels and starter weights included. The weights were trained by the authors of slomod on scenes that a program drew\n"
           " and on crops of films. Some textures of the scenes are frames of car-detection.mp4 of Intel IoT DevKit\n"
           " (https://github.com/intel-iot-devkit/sample-videos, CC BY 4.0,\n"
           " https://creativecommons.org/licenses/by/4.0/), cropped, transformed and layered. The films are Big Buck Bunny\n"
           " (peach.blender.org) and Sintel (durian.blender.org), (c) Blender Foundation, CC BY 3.0,\n"
           " https://creativecommons.org/licenses/by/3.0/, and cityCC0.mpg of Kivy. models/README.md beside this file names all\n"
           " sources.")
    for package in linked(metadata()):
        folder = pathlib.Path(package["manifest_path"]).parent
        names, holders = [], []
        for licence in chosen(package):
            text = text_of(folder, licence)
            if licence in COMMON:
                names.append(licence)
                texts.setdefault(licence, {})[""] = (licence, None)
            else:
                # A crate without the text of its licence is under the licence as such, which the first text shows.
                names.append(name_for(licence, body(text)) if text else licence)
            holders += copyrights(text or "", package)
        stanza(f"crates/{package['name']}-{package['version']}/*", list(dict.fromkeys(holders)), names,
               f"offered as {package['license']}")
        for crate, what, file, holder, licence, text in BUNDLED:
            if package["name"] == crate:
                text = text or body((folder / file).read_text())
                inner = file.split("/")[0]
                stanza(f"crates/{crate}-{package['version']}/{inner}/*", [holder], [name_for(licence, text)], f"{what}, compiled in")
    stanza("rust/*", ["the authors of the Rust standard library"], ["MIT"], "linked in; offered as MIT OR Apache-2.0")
    for licence, versions in texts.items():
        for name, text in versions.values():
            text = text or f"See /usr/share/common-licenses/{COMMON[licence]}."
            out += [f"License: {name}", indented(text), ""]
    print("\n".join(out).rstrip())


main()
