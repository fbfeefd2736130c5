#!/usr/bin/env bash
# Writes a list of the dependencies of each program (SBOM, CycloneDX): imgsync.cdx.json and
# imgsync-server.cdx.json.
#
#   packaging/sbom.sh OUTPUT
#
# Needs cargo-cyclonedx: cargo install --locked cargo-cyclonedx
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=packaging/common.sh
. "$top/packaging/common.sh"

mkdir -p "${1:?usage: sbom.sh OUTPUT}"
output=$(realpath "$1")
cd "$top"
have cargo-cyclonedx || fail 'cargo-cyclonedx is missing: cargo install --locked cargo-cyclonedx'
# The same commit gives the same bytes, without the path of the folder on this machine.
SOURCE_DATE_EPOCH=$(source_date)
export SOURCE_DATE_EPOCH
# With the dependencies on all systems. cargo-cyclonedx writes one file beside each Cargo.toml.
cargo cyclonedx --quiet --format json --spec-version 1.5 --target all --override-filename sbom
sed "s|file://$top/|file:///|g" cli/sbom.json >"$output/imgsync.cdx.json"
sed "s|file://$top/|file:///|g" server/sbom.json >"$output/imgsync-server.cdx.json"
rm -f cli/sbom.json server/sbom.json oci/sbom.json
