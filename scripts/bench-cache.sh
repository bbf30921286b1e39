#!/usr/bin/env bash
# Measures Weft's cache beside other caches on this machine, on the same work and in the same run.
#
# Builds weft-bench in release mode and runs its cache benchmark: moka, quick_cache, scc::HashCache,
# TinyUFO and foyer, and maps without eviction as bounds, with the same keys, values and hash;
# interleaved rounds, medians. Other work on the machine spoils the figures; how much there was is
# told with them.
#
#   scripts/bench-cache.sh                              all but hit ratios, as tables (some minutes)
#   scripts/bench-cache.sh --traces DIR                 with hit ratios on the traces in DIR
#   scripts/bench-cache.sh --quick                      everything in under a minute, roughly
#   scripts/bench-cache.sh --only hot_borrow,storm --rounds 9
#   scripts/bench-cache.sh --output json --plot DIR
#
# Flags go to weft-bench (--help lists them). Results are on stdout, all else on stderr.
# Exit codes: 0 measured, 2 wrong flags, 4 it could not be measured.
set -euo pipefail

if [[ "$(uname -s)" != Linux ]]; then
  printf 'bench-cache: this benchmark needs Linux\n' >&2
  exit 4
fi
if ! command -v cargo >/dev/null; then
  printf 'bench-cache: cargo is not installed (https://rustup.rs)\n' >&2
  exit 4
fi
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
exec cargo run --release --manifest-path "$root/Cargo.toml" --package weft-bench -- cache "$@"
