#!/usr/bin/env bash
# Compiles constraints.txt: resolves pyproject.toml with all of its extras in an empty environment and writes down what
# came out, versions only. The packages of the `gpu` extra are resolved but not installed: they are gigabytes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$PYTHON" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --upgrade pip
"$work/venv/bin/python" -m pip install --quiet --dry-run --ignore-installed --report "$work/report.json" '.[dev,gpu]'
"$PYTHON" - "$work/report.json" >"$work/constraints.txt" <<'PROGRAM'
import json
import sys

print("# Compiled by `make constraints` from pyproject.toml: the versions that this project is tested with.")
report = json.load(open(sys.argv[1], encoding="utf-8"))
pins = {item["metadata"]["name"].lower().replace("_", "-").replace(".", "-"): item["metadata"]["version"]
        for item in report["install"]}
for name in sorted(pins.keys() - {"fitchain-verifier"}):
    print(f"{name}=={pins[name]}")
PROGRAM
mv "$work/constraints.txt" constraints.txt
