#!/usr/bin/env bash
# Runs the tests of the caches, the only code of Weft's own that manages memory, under
# AddressSanitizer: unit tests on real threads, and the drawn orders of tests/interleave.
#
#   scripts/sanitize.sh
#
# Needs Linux on x86-64 or AArch64 and whatever toolchain builds Weft; takes some minutes, most of
# them to build.
# Exit code: 0 when all passed, 1 or cargo's own when something failed.
set -euo pipefail
cd "$(dirname "$0")/.."

# The sanitizer comes with every toolchain but is not a stable option.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address ${RUSTFLAGS:-}"
# Threads' slots are never given back, on purpose.
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}"
target=$(rustc -vV | sed -n 's/^host: //p')
# A target of its own, so that build scripts and macros are built without it.
run() { cargo test --locked --package weft-mesh --target "$target" "$@"; }
run --lib -- cache:: coherence:: sync::
run --test interleave
