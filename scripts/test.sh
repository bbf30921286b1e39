#!/usr/bin/env bash
# Checks everything that CI checks, the tests last.
#
#   scripts/test.sh             as root on Debian: installs the packages that are missing, then runs all
#   scripts/test.sh --no-root   leaves out the tests that need network namespaces, and says so
#
# Exit code: 0 when all passed, 1 when something failed, 2 on a wrong argument or a missing tool.
set -euo pipefail
cd "$(dirname "$0")/.."

root=yes
for arg in "$@"; do
  case $arg in
    --no-root) root=no ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "unknown argument: $arg (see --help)" >&2; exit 2 ;;
  esac
done

step() { printf '\n== %s\n' "$*" >&2; }
die() { echo "scripts/test.sh: $*" >&2; exit 2; }

# What a package is needed for is told by a command it brings.
missing=()
need() {
  command -v "$1" > /dev/null || [ -x "/usr/sbin/$1" ] || missing+=("$2")
}
need cc gcc # a dependency of the directory is in C
if [ "$root" = yes ]; then
  need ip iproute2
  need iptables iptables
fi
if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    step "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
  else
    die "missing Debian packages: apt-get install -y ${missing[*]}"
  fi
fi
command -v cargo > /dev/null || die "missing: cargo; install Rust from https://rustup.rs"
for component in fmt clippy; do
  cargo "$component" --version > /dev/null 2>&1 || die "missing: cargo $component; rustup component add rustfmt clippy"
done
if [ "$root" = yes ] && [ "$(id -u)" != 0 ]; then
  die "the tests in network namespaces need root; run as root, or leave them out with --no-root"
fi
# iptables and ip live there on Debian, and a user's PATH may lack it.
export PATH="$PATH:/usr/sbin:/sbin"

step "format"
cargo fmt --all --check

step "lints"
cargo clippy --workspace --all-targets --locked -- -D warnings
# The library alone, as someone embeds it.
cargo clippy -p weft-mesh --lib --no-default-features --locked -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

if command -v shellcheck > /dev/null; then
  step "scripts"
  shellcheck scripts/*.sh .ci/run
fi
if command -v vagrant > /dev/null; then
  step "Vagrantfile"
  home=$(mktemp -d)
  VAGRANT_HOME="$home/home" VAGRANT_DOTFILE_PATH="$home/state" vagrant validate
  rm -rf "$home"
fi

# Licences and sources follow from what is on this machine; advisories from a database on the network.
if cargo deny --version > /dev/null 2>&1; then
  step "dependencies: licences, sources, bans"
  cargo deny --locked --log-level error check bans licenses sources
  step "dependencies: advisories"
  if cargo deny --locked --log-level off fetch db; then
    cargo deny --locked --log-level error check --disable-fetch advisories
  else
    echo "left out: known weaknesses of dependencies (the RustSec database can't be fetched)" >&2
  fi
else
  echo "left out: licences and known weaknesses of dependencies (cargo install --locked cargo-deny)" >&2
fi

step "example: embed"
timeout 300 cargo run --locked --quiet --example embed

step "documentation tests"
cargo test --workspace --doc --locked --quiet

step "tests"
if cargo nextest --version > /dev/null 2>&1; then
  filter=()
  if [ "$root" = no ]; then
    filter=(-E 'not (kind(test) and test(/netns/))')
  fi
  cargo nextest run --workspace --locked ${CI:+--profile ci} "${filter[@]}"
else
  skip=()
  if [ "$root" = no ]; then
    skip=(--skip netns)
  fi
  # Without nextest's groups, tests that share the machine's network go one at a time.
  cargo test --workspace --locked --lib --bins
  cargo test --workspace --locked --test '*' -- --test-threads=1 "${skip[@]}"
fi
if [ "$root" = no ]; then
  echo "left out: tests in network namespaces (--no-root)" >&2
fi
