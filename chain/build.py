"""Compile the contracts: ``python -m chain.build`` rewrites ``chain/artifacts/*.json``, ``--check`` only
compares.

An artifact is what the rest of the package needs of a contract, so that running a verifier needs no compiler:
``{"contract", "compiler", "source", "sourceSha256", "abi", "bytecode", "deployedSize"}``; bytecode is the
creation code as 0x-prefixed hex, without constructor arguments. The EVM version and the optimisation level
are pragmas of the source. The compiler (Vyper, of the ``dev`` extra) is imported here and nowhere else.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

CONTRACTS = ("Registry", "ValidatorPool")
SOURCES = Path(__file__).parent / "contracts"
ARTIFACTS = Path(__file__).parent / "artifacts"


def compile_contract(name: str) -> dict[str, Any]:
    """Compile one contract of ``chain/contracts`` and return its artifact."""
    import vyper
    from vyper.compiler import compile_code

    source = (SOURCES / f"{name}.vy").read_text(encoding="utf-8")
    output = compile_code(source, output_formats=["abi", "bytecode", "bytecode_runtime"])
    return {
        "contract": name,
        "compiler": f"vyper {vyper.__version__}",
        "source": f"contracts/{name}.vy",
        "sourceSha256": hashlib.sha256(source.encode()).hexdigest(),
        "abi": output["abi"],
        "bytecode": output["bytecode"],
        "deployedSize": len(output["bytecode_runtime"]) // 2 - 1,
    }


def render(artifact: dict[str, Any]) -> str:
    """Render an artifact as it stands in the repository: stable, one ABI entry a line."""
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in artifact.items() if key != "abi"]
    abi = ",\n".join("    " + json.dumps(entry) for entry in artifact["abi"])
    return "{\n" + ",\n".join([*lines, f'  "abi": [\n{abi}\n  ]']) + "\n}\n"


def stale_artifacts() -> list[str]:
    """Name the contracts whose committed artifact is not what their source compiles to."""
    return [name for name in CONTRACTS if _stored(name) != render(compile_contract(name))]


def _stored(name: str) -> str | None:
    path = ARTIFACTS / f"{name}.json"
    return path.read_text(encoding="utf-8") if path.exists() else None


def main(arguments: list[str] | None = None) -> int:
    """Rebuild the artifacts, or with ``--check`` report the stale ones (then the exit code is 1)."""
    parser = argparse.ArgumentParser(prog="python -m chain.build", description="Compile the contracts.")
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 if an artifact is stale")
    if parser.parse_args(arguments).check:
        stale = stale_artifacts()
        for name in stale:
            sys.stderr.write(f"{name}.json does not match its source: run `python -m chain.build`\n")
        return 1 if stale else 0
    ARTIFACTS.mkdir(exist_ok=True)
    for name in CONTRACTS:
        artifact = compile_contract(name)
        (ARTIFACTS / f"{name}.json").write_text(render(artifact), encoding="utf-8")
        sys.stdout.write(f"{name}: {artifact['deployedSize']} bytes deployed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
