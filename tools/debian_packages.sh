#!/bin/sh
# Other people's programs that tests compare with. Installed where that is possible (root, apt-get); elsewhere the
# tests that need one are skipped and say so. Never a reason to fail.   Add a line: program, package.
set -u
WANTED="
ip iproute2
tshark tshark
irtt irtt
iperf3 iperf3
turnutils_stunclient coturn
pg_ctlcluster postgresql
"
missing=""
while read -r program package; do
    [ -z "$program" ] || command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done <<END
$WANTED
END
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "without$missing (installed by root, with apt-get): some tests are skipped" >&2
    exit 0
fi
echo "installing$missing for the tests" >&2
export DEBIAN_FRONTEND=noninteractive
install() { timeout 120 apt-get -qq -o Dpkg::Use-Pty=0 install -y --no-install-recommends $missing >/dev/null 2>&1; }
# a fresh container knows no package until it has asked
install || { timeout 60 apt-get -qq update >/dev/null 2>&1 && install; } ||
    echo "apt-get could not install$missing: some tests are skipped" >&2
exit 0
