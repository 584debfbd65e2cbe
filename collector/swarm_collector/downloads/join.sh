#!/bin/sh
# Install the swarmtop that a collector serves, and start its probe. `swarmtop invite` prints the line that runs this.
#
#   join.sh [--no-torch] COLLECTOR_URL WHEEL_SHA256 ARGUMENTS_OF_SWARM_PROBE...
#
# The wheel is taken only with the hash named. It is installed with uv or pipx where one is there, else into a virtual
# environment in ~/.local/share/swarmtop. What swarmtop depends on, torch among it, comes from the usual package index.
set -eu

say() { printf 'join.sh: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

tries="[torch,quic] [quic] none"
if [ "${1-}" = --no-torch ]; then
  tries="[quic] none"
  shift
fi
[ $# -ge 3 ] || fail "usage: join.sh [--no-torch] COLLECTOR_URL WHEEL_SHA256 ARGUMENTS_OF_SWARM_PROBE..."
url=$1 sha=$2
shift 2

# The certificate is the collector's own, so no authority vouches for it: what is fetched is checked by its hash.
fetch() {
  if has curl; then curl -kfsS --retry 3 -o "$1" "$url/$2"; else wget -q --no-check-certificate -O "$1" "$url/$2"; fi
}
sha256() { if has sha256sum; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -c 1-64; }

place=${XDG_DATA_HOME:-$HOME/.local/share}/swarmtop
mkdir -p "$place"
cd "$place"
fetch sums SHA256SUMS || fail "cannot reach $url"
wheel=$(sed -n "s/^$sha  \(swarmtop-[0-9A-Za-z.+]*-py3-none-any\.whl\)\$/\1/p" sums)
[ -n "$wheel" ] || fail "the collector serves another version than this invite names; ask its operator for a new line"
fetch "$wheel" "wheel/$wheel" || fail "cannot fetch $url/wheel/$wheel"
[ "$(sha256 "$wheel")" = "$sha" ] || fail "$wheel is not what the invite says: somebody may be in between; nothing was installed"

python=
for each in python3 python3.14 python3.13 python3.12 python3.11; do
  if has "$each" && "$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$each
    break
  fi
done

# Installers and what they run need no secrets. Each prints where the programs are.
quietly() { env -u SWARMTOP_INVITE -u SWARMTOP_TOKEN "$@" >&2; }
with_uv() { quietly uv tool install --quiet --force --python '>=3.11,<3.15' "$1" && uv tool dir --bin; }
with_pipx() { quietly pipx install --force --python "$python" "$1" && pipx environment --value PIPX_BIN_DIR; }
with_venv() {
  quietly "$python" -m venv venv && quietly venv/bin/python -m pip install --quiet --disable-pip-version-check "$1" || return
  mkdir -p "$HOME/.local/bin"
  ln -sf "$place/venv/bin/swarmtop" "$place/venv/bin/swarm-probe" "$place/venv/bin/swarm-collector" "$HOME/.local/bin/"
  echo "$HOME/.local/bin"
}
if has uv; then
  with=uv
elif [ -z "$python" ]; then
  fail "Python 3.11 or newer is needed, or uv, which brings one: https://docs.astral.sh/uv"
elif has pipx; then
  with=pipx
else
  with=venv
fi

programs=
for extras in $tries; do
  [ "$extras" != none ] || extras=
  say "installing swarmtop$extras with $with"
  if programs=$(with_$with "./$wheel$extras"); then break; fi
  programs=
  say "that failed"
done
[ -n "$programs" ] || fail "swarmtop could not be installed; the lines above say why"
rm -f sums
case $extras in *torch*) ;; *) say "torch is not there, so layers are not timed; everything else works" ;; esac
say "from now on: $programs/swarm-probe $*"
exec "$programs/swarm-probe" "$@"
