#!/usr/bin/env bash
# Runs the printed lines of an installation, from the first to a signer that can sign, on a copy of this system that goes away
# with this process, with a network of its own, so that the ports of the documentation are free. Prints what the test looks for.
# Usage: unshare --mount --net --pid --fork --kill-child bash in_machine.sh DOWNLOADS LINES
#   DOWNLOADS  a folder with a release, and with validator_keys/ and password.txt of the network hoodi
#   LINES      a file with the lines; "# here" stands where the installer's own advice is to be followed
# tests/bare_root/stand_ins says what stands in for sudo, an editor and systemd.
set -euo pipefail
# shellcheck source=tests/bare_root/stand_ins
. "$(dirname "$0")/../../bare_root/stand_ins"

downloads="$(readlink -f "$1")" lines="$(readlink -f "$2")"
work="$(mktemp -d)"
mount --make-rprivate /
mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/system"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/system"
system="$work/system"
mount -t proc proc "$system/proc"
mount --rbind /dev "$system/dev"
ip link set lo up
# What an earlier installation left on this system is no part of a new one.
rm -rf "$system/var/lib/holdfast" "$system/etc/holdfast" "$system/usr/local/bin/holdfast" "$system/etc/systemd/system"/holdfast*
mkdir -p "$system/srv/download"
cp -R "$downloads/." "$system/srv/download/"
cp "$lines" "$system/srv/lines"
stand_ins "$system" 'name = "hoodi"'
# No mirror is in reach, and nobody answers.
printf 'APT::Install-Recommends "false";\nAPT::Get::Assume-Yes "true";\n' >"$system/etc/apt/apt.conf.d/99test"

chroot "$system" env -i HOME=/root DEBIAN_FRONTEND=noninteractive PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -euo pipefail <<'INSIDE'
dpkg --purge holdfast >/dev/null 2>&1 || true
cd /srv/download
touch /tmp/advice
configured="holdfast --config /etc/holdfast/holdfast.toml"
doctor() {
    # What it finds is in its words; 1 says that there is something to mend.
    code=0
    # shellcheck disable=SC2086 # The words of the command line.
    setpriv --reuid holdfast --regid holdfast --clear-groups -- $configured doctor || code=$?
    echo "doctor $1: $code"
}
typed() {
    echo "\$ $1"
    bash -euc "$1" 2>&1 | tee /tmp/said
    case "$1" in sudoedit*) doctor before ;; esac
}
while read -r line <&3; do
    if [ "$line" = "# here" ]; then
        # The network first, as the installer says; then its lines.
        sed -n 's/^next: set the network in \([^,]*\), then$/sudoedit \1/p; s/^  sudo /sudo /p' /tmp/said >/tmp/advice
        [ "$(wc -l </tmp/advice)" -eq 4 ]
        while read -r advised <&4; do typed "$advised"; done 4</tmp/advice
    else
        typed "$line"
    fi
done 3</srv/lines
holdfast --version
echo "upcheck: $(curl --fail --silent http://127.0.0.1:9000/upcheck)"
echo "healthcheck: $(curl --fail --silent http://127.0.0.1:9000/healthcheck)"
echo "keys: $(curl --fail --silent http://127.0.0.1:9000/api/v1/eth2/publicKeys)"
# shellcheck disable=SC2086 # The words of the command line.
setpriv --reuid holdfast --regid holdfast --clear-groups -- $configured status --ready >/dev/null && echo "ready"
# Bare commands, as the runbooks print them, find the service's signer from anywhere, for those who may see it.
cd /
echo "as the service: $(setpriv --reuid holdfast --regid holdfast --clear-groups -- holdfast status --ready | grep ^configuration)"
code=0
setpriv --reuid games --regid games --clear-groups -- holdfast keys list >/tmp/other 2>&1 || code=$?
echo "as another: $code $(cat /tmp/other)"
cd /srv/download
doctor after
# What is there is kept when the same lines are given again.
typed "$(grep -h 'keys import' /srv/lines /tmp/advice)"
# Another program on the port: here the signer itself, which the next one takes for what it most probably is.
code=0
holdfast --data-dir /srv/other --network hoodi serve --metrics-listen 127.0.0.1:9003 2>&1 || code=$?
echo "port in use: $code"
INSIDE
