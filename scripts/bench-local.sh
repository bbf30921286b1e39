#!/usr/bin/env bash
# Measures Weft, NATS and Redis Pub/Sub on this machine, on the same work and in the same run.
#
# Builds weft-bench in release mode and runs its cluster benchmark: five real processes on
# loopback, distinct random keys, exact comparison of what was published with what each receiver
# applied; 1,000 and 10,000 records a second and full speed, medians of five rounds.
#
#   scripts/bench-local.sh                         all of it, as a table (some minutes)
#   scripts/bench-local.sh --quick                 one round, fewer records
#   scripts/bench-local.sh --output json --plot latency.svg
#   scripts/bench-local.sh --rate 0 --records 1000000 --systems weft
#   scripts/bench-local.sh --rate 0 --systems weft,weft-sealed    what a key costs
#   scripts/bench-local.sh idle                    what an idle mesh costs
#
# Flags go to weft-bench (--help lists them). Results are on stdout, all else on stderr. NATS and
# Redis take part if nats-server and redis-server are installed; they are started on free loopback
# ports of their own and ended afterwards. Nothing is installed. Needs Linux and cargo.
# Exit codes: 0 nothing lost, 1 something was lost, 2 wrong flags, 4 it could not be measured.
set -euo pipefail

say() { printf 'bench-local: %s\n' "$*" >&2; }

if [[ "$(uname -s)" != Linux ]]; then
  say "this benchmark needs Linux"
  exit 4
fi
if ! command -v cargo >/dev/null; then
  say "cargo is not installed (https://rustup.rs)"
  exit 4
fi
# Debian puts servers where not every user's PATH leads.
PATH="$PATH:/usr/sbin:/usr/local/sbin"
for server in nats-server redis-server; do
  command -v "$server" >/dev/null || say "$server is not installed, so it is left out (apt-get install $server)"
done

root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
case "${1-}" in
  cluster | idle | help) ;;
  *) set -- cluster "$@" ;;
esac
exec cargo run --release --manifest-path "$root/Cargo.toml" --package weft-bench -- "$@"
